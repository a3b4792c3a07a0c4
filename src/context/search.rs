use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use crate::errands::guarded;
use crate::sync::thread_local;

thread_local! {
    /// `Some` while somebody searches.
    static SEARCH: RefCell<Option<Option<Found>>> = const { RefCell::new(None) };
}

type Found = Arc<dyn Any + Send + Sync>;

/// Finds what is behind a trait object of rustls's: it is asked a harmless question, and shows
/// itself while it answers. One that is wrapped in another, which passes questions on, is found
/// too. A panic of one in between goes no further.
pub(crate) fn search(ask: impl FnOnce()) -> Option<Found> {
    SEARCH.try_with(|search| search.replace(Some(None))).ok()?;
    guarded(ask);
    SEARCH.try_with(RefCell::take).ok()??
}

/// Shows this to whoever searches on this thread.
pub(crate) fn answer_search(found: impl FnOnce() -> Found) {
    let _ = SEARCH.try_with(|search| {
        if let Some(answer) = &mut *search.borrow_mut() {
            *answer = Some(found());
        }
    });
}
