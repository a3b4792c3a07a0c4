//! What the files hold, without their secrets.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustls_resumption::Sealing;

use crate::error::Error;
use crate::set::{self, KeySet};

/// Says that the keys are good, and what could be better.
pub(crate) fn check(set: &KeySet) -> Result<(), Error> {
    for advice in &set.advice {
        say!("warning: {advice}");
    }
    say!("good: {} keys ({:?})", set.keys.len(), set.format);
    Ok(())
}

pub(crate) fn show(files: &[PathBuf], sealing: Sealing) -> Result<(), Error> {
    let inventory = set::inspect(files, sealing)?;
    say!(
        "{:<32}  {:<5}  {:<12}  place",
        "key name",
        "use",
        "file changed"
    );
    for key in inventory.keys() {
        let age = SystemTime::now().duration_since(key.modified());
        let age = match age {
            Ok(age) => humantime::format_duration(rounded(age)).to_string(),
            Err(_) => "in future".to_owned(),
        };
        let usage = if key.seals() { "seals" } else { "opens" };
        say!("{}  {usage:<5}  {age:<12}  {}", key.name(), key.place());
    }
    for advice in inventory.advice() {
        say!("warning: {advice}");
    }
    Ok(())
}

/// To two units at most.
fn rounded(age: Duration) -> Duration {
    let seconds = age.as_secs();
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    Duration::from_secs(seconds - seconds % unit)
}
