//! The same keys in another format.

use std::path::PathBuf;

use crate::Schedule;
use crate::error::Error;
use crate::file;
use crate::format::Format;
use crate::key::Key;
use crate::rotate::{make, seconds};
use crate::set::KeySet;

pub(crate) fn convert(
    files: &[PathBuf],
    to: Format,
    out: &[PathBuf],
    schedule: &Schedule,
) -> Result<(), Error> {
    let set = KeySet::read(files)?;
    let from = set.format;
    let keys = ordered(set, to, schedule)?;
    let _lock = file::lock(out)?;
    make(out, to, &keys)?;
    say!("converted {} keys from {from:?} to {to:?}", keys.len());
    Ok(())
}

/// The keys in the order of the other format, in which the same one seals.
fn ordered(set: KeySet, to: Format, schedule: &Schedule) -> Result<Vec<Key>, Error> {
    let KeySet {
        format,
        mut keys,
        sealing,
        ..
    } = set;
    // A list of HAProxy is the oldest first; what follows the key that seals is yet to seal.
    let (active, next, retired) = match format {
        Format::Haproxy => {
            let next = keys.split_off(sealing + 1);
            let active = keys.pop();
            keys.reverse();
            (active, next, keys)
        }
        Format::H2o => {
            // By its index: others may begin at the same time.
            let active = keys.remove(sealing);
            keys.sort_by_key(Key::begins);
            let (mut until, next): (Vec<_>, Vec<_>) = keys
                .into_iter()
                .partition(|key| key.begins() <= active.begins());
            until.reverse();
            (Some(active), next, until)
        }
        Format::Nginx | Format::TrafficServer => {
            let active = Some(keys.remove(sealing));
            (active, Vec::new(), keys)
        }
    };
    let Some(active) = active else {
        return Err(Error::Wrong("there is no key that seals".to_owned()));
    };
    Ok(match to {
        Format::Nginx | Format::TrafficServer => {
            let rest = retired.into_iter().chain(next);
            std::iter::once(active).chain(rest).collect()
        }
        Format::Haproxy => {
            let mut next = next;
            // A new one, if none was published ahead. HAProxy has only one.
            if next.is_empty() {
                next.push(Key::random(active.as_bytes().len())?);
            }
            let last = next.remove(0);
            let oldest = next.into_iter().chain(retired.into_iter().rev());
            oldest.chain([active, last]).collect()
        }
        Format::H2o => {
            let interval = schedule.interval.as_secs();
            let now = seconds(schedule.time());
            // As if they had been made in time.
            let past = (1..).zip(retired);
            let past = past.map(|(i, key)| (now.saturating_sub(interval.saturating_mul(i)), key));
            let future = (1..).zip(next);
            let future =
                future.map(|(i, key)| (now.saturating_add(interval.saturating_mul(i)), key));
            let mut all: Vec<(u64, Key)> = past.collect();
            all.reverse();
            all.push((now, active));
            all.extend(future);
            let dated = all.into_iter().map(|(time, mut key)| {
                key.times = Some(schedule.times(time));
                key
            });
            dated.collect()
        }
    })
}
