use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::errands::guarded;

/// What a future comes to, or what it said when it panicked: that ends neither a task nor a thread.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(payload) => {
                let said = said(payload.as_ref());
                guarded(|| drop(payload)); // foreign, too
                Poll::Ready(Err(said))
            }
        }
    })
    .await
}

/// In one line, as it may be logged.
fn said(payload: &(dyn Any + Send)) -> String {
    let words = payload.downcast_ref::<&str>().copied();
    match words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)) {
        Some(words) => format!("panicked: {words:?}"),
        None => "panicked".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[tokio::test]
    async fn what_a_future_comes_to_is_passed_on() {
        let later = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(caught(later).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_told_in_its_words_and_in_one_line() {
        let later = async {
            tokio::task::yield_now().await;
            panic!("no\nprovider");
        };
        let panicked = caught::<Box<dyn Future<Output = ()> + Unpin>>(Box::new(Box::pin(later)));
        assert_eq!(panicked.await.unwrap_err(), r#"panicked: "no\nprovider""#);
        let formatted = caught(async { assert_eq!(1, 2, "on purpose") }).await;
        assert!(formatted.unwrap_err().contains("on purpose"));
        let odd = caught(async { panic_any(7) }).await;
        assert_eq!(odd.unwrap_err(), "panicked");
    }
}
