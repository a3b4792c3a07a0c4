//! Making keys, and replacing them on time.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Schedule;
use crate::error::Error;
use crate::file;
use crate::format::Format;
use crate::key::{Key, Times};
use crate::set::{self, KeySet};

/// The most keys that a server takes.
const MAX_KEYS: usize = 64;

pub(crate) fn new(
    files: &[PathBuf],
    format: Option<Format>,
    schedule: &Schedule,
) -> Result<(), Error> {
    let format = format.unwrap_or(match files {
        [_] => Format::Haproxy,
        _ => Format::Nginx,
    });
    if format.is_list() && files.len() > 1 {
        return Err(Error::Usage(
            "this format is a list of keys: name one file".to_owned(),
        ));
    }
    let count = match format {
        Format::Nginx => {
            schedule.check_files(files.len())?;
            files.len()
        }
        // A single key of Traffic Server would look like one of nginx.
        Format::Haproxy | Format::TrafficServer => 2,
        Format::H2o => 1,
    };
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(Key::random(format.key_len())?);
    }
    if let (Format::H2o, [key]) = (format, &mut keys[..]) {
        key.times = Some(schedule.times(seconds(schedule.time())));
    }
    let _lock = file::lock(files)?;
    make(files, format, &keys)?;
    say!("made {}", counted(keys.len()));
    Ok(())
}

/// Writes keys to files that must not exist.
pub(crate) fn make(files: &[PathBuf], format: Format, keys: &[Key]) -> Result<(), Error> {
    if let Some(there) = files.iter().find(|file| file.exists()) {
        return Err(Error::Wrong(format!(
            "{} exists already: it is not overwritten. Use `stek rotate`, or remove it",
            there.display()
        )));
    }
    let prepared = set::prepare(files, format, keys)?;
    set::make(prepared, file::sync_directory)
}

pub(crate) fn rotate(files: &[PathBuf], now: bool, schedule: &Schedule) -> Result<(), Error> {
    let _lock = file::lock(files)?;
    let mut set = KeySet::read(files)?;
    let time = schedule.time();
    let not_due = schedule.not_due(&set, time);
    // H2O's keys are dropped by their dates, whenever that is.
    let is_early = !matches!(not_due, Ok(None)) && set.format != Format::H2o;
    if !now && let Some(wait) = not_due? {
        let wait = humantime::format_duration(Duration::from_secs(wait.as_secs()));
        say!("nothing to do: the next rotation is in {wait}");
        return Ok(());
    }
    let before = set.keys.len();
    if set.format == Format::H2o {
        if now {
            set.keys = schedule.bring_back(set.keys, seconds(time));
        }
        schedule.suspect(&set.keys, seconds(time));
    }
    let new = Key::random(match set.format {
        Format::Nginx | Format::Haproxy => set.keys[set.sealing].as_bytes().len(),
        format => format.key_len(),
    })?;
    let keys = match set.format {
        Format::Nginx => schedule.shift(set.keys, new, files.len())?,
        Format::TrafficServer => schedule.prepend(set.keys, new)?,
        Format::Haproxy => schedule.append(set.keys, new)?,
        Format::H2o => schedule.succeed(set.keys, new, seconds(time))?,
    };
    let prepared = set::prepare(files, set.format, &keys)?;
    set::replace(prepared, file::sync_directory)?;
    let dropped = (before + 1).saturating_sub(keys.len());
    say!(
        "made 1 key, dropped {dropped}: {} in all. Ship them to every node within {}",
        counted(keys.len()),
        humantime::format_duration(schedule.publish_ahead)
    );
    if is_early && dropped > 0 {
        let wait = Duration::from_secs(schedule.least_interval().as_secs());
        warn!(
            "it was not yet time for a new key: tickets under what was dropped may not have \
             expired, and then cost full handshakes. Each --now within the next {} drops another",
            humantime::format_duration(wait)
        );
    }
    Ok(())
}

fn counted(keys: usize) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

fn time_between(start: u64, end: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(end.saturating_sub(start)))
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl Schedule {
    /// How long it is until the next rotation. A timer may be early by a tenth of the interval.
    fn not_due(&self, set: &KeySet, now: SystemTime) -> Result<Option<Duration>, Error> {
        let is_dated = set.format == Format::H2o;
        let last = match is_dated {
            true => self.last_made(&set.keys, seconds(now)),
            false => Some(set.modified),
        };
        let passed = last.map(|last| now.duration_since(last));
        let wait = match passed {
            Some(Ok(passed)) => self.least_interval().saturating_sub(passed),
            // Of H2O's keys, `convert` dates one as if it were made by the next rotation.
            Some(Err(early)) if is_dated => self.least_interval().saturating_add(early.duration()),
            _ => {
                return Err(Error::Wrong(
                    "the last rotation lies in the future: correct the clock, or rotate with --now"
                        .to_owned(),
                ));
            }
        };
        Ok(Some(wait).filter(|wait| !wait.is_zero()))
    }

    /// When the newest of H2O's keys was made: it is dated by when it begins. One that begins too
    /// late does not count, or a clock that was ahead once would stop rotation until then.
    fn last_made(&self, keys: &[Key], now: u64) -> Option<SystemTime> {
        let made = Duration::from_secs(self.newest(keys, now)?).saturating_sub(self.publish_ahead);
        // A time beyond all that can be told is in the future.
        UNIX_EPOCH.checked_add(made)
    }

    /// When the newest of H2O's keys begins, of those that do not begin too late.
    fn newest(&self, keys: &[Key], now: u64) -> Option<u64> {
        let begins = keys.iter().map(Key::begins);
        begins.filter(|begins| *begins <= self.latest(now)).max()
    }

    /// When a key begins at the latest if no clock was wrong: that of the next rotation, which
    /// `convert` may have dated.
    fn latest(&self, now: u64) -> u64 {
        let ahead = self.interval.saturating_add(self.publish_ahead);
        now.saturating_add(ahead.as_secs())
    }

    /// Warns if the dates of H2O's keys and the clock do not go together.
    fn suspect(&self, keys: &[Key], now: u64) {
        let last = keys.iter().map(Key::begins).max().unwrap_or(now);
        if last > self.latest(now) {
            warn!(
                "a key begins only in {}, so a clock was ahead when it was made. Rotation goes on \
                 without it; --now dates it back",
                time_between(now, last)
            );
        }
        let newest = self.newest(keys, now).unwrap_or(now);
        if now.saturating_sub(newest) > self.life() {
            warn!(
                "the newest key began {} ago: rotations were missed, or the clock is ahead. Old keys \
                 are kept until the next rotation",
                time_between(newest, now)
            );
        }
    }

    /// H2O's keys that begin too late are dated like the one that seals, and opened as long: servers
    /// have them, and may have sealed with them if their clocks were ahead too, or if all keys begin
    /// too late.
    fn bring_back(&self, keys: Vec<Key>, now: u64) -> Vec<Key> {
        let latest = self.latest(now);
        let is_late = |key: &Key| key.begins() > latest;
        let (mut late, mut keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_late);
        let begun = keys.iter().map(Key::begins).filter(|begins| *begins <= now);
        let first = keys.iter().map(Key::begins).min();
        let seals = begun.max().or(first).unwrap_or(now);
        if !late.is_empty() {
            warn!(
                "{} would have begun far too late: dated back",
                counted(late.len())
            );
        }
        // Of those that begin at the same time the first seals.
        late.sort_by_key(Key::begins);
        for mut key in late {
            key.times = Some(self.times(seals));
            keys.push(key);
        }
        keys
    }

    fn least_interval(&self) -> Duration {
        self.interval.saturating_mul(9) / 10
    }

    /// How many keys must be there besides the one that seals and those that will: as many as have
    /// sealed within a ticket lifetime.
    fn retired(&self) -> usize {
        let time = self.lifetime.saturating_add(self.publish_ahead).as_nanos();
        let retired = time.div_ceil(self.least_interval().as_nanos().max(1));
        usize::try_from(retired).unwrap_or(usize::MAX)
    }

    /// Whether so many files of one key each keep a key for long enough.
    fn check_files(&self, files: usize) -> Result<(), Error> {
        let needed = self.retired().saturating_add(1);
        if files >= needed {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{files} files of one key each are too few: with a new key every {} and tickets that \
             open for {}, {needed} are needed. Name more files, use one list of keys (`--format \
             haproxy`), or choose another --interval or --lifetime",
            humantime::format_duration(self.interval),
            humantime::format_duration(self.lifetime)
        )))
    }

    fn check_count(&self, keys: usize) -> Result<(), Error> {
        if keys <= MAX_KEYS {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{keys} keys would have to be kept, and servers take {MAX_KEYS} at most: choose a \
             longer --interval or a shorter --lifetime"
        )))
    }

    /// The new key goes to the first file, and each of the others moves on by one.
    fn shift(&self, keys: Vec<Key>, new: Key, files: usize) -> Result<Vec<Key>, Error> {
        self.check_files(files)?;
        let mut keys: Vec<_> = std::iter::once(new).chain(keys).take(files).collect();
        // Where a key stood twice there is room for another, which nobody has used.
        while keys.len() < files {
            keys.push(Key::random(keys[0].as_bytes().len())?);
        }
        Ok(keys)
    }

    /// The first seals.
    fn prepend(&self, keys: Vec<Key>, new: Key) -> Result<Vec<Key>, Error> {
        let kept = self.retired().saturating_add(1);
        self.check_count(kept)?;
        Ok(std::iter::once(new).chain(keys).take(kept).collect())
    }

    /// The last but one seals, and the new one is the next.
    fn append(&self, mut keys: Vec<Key>, new: Key) -> Result<Vec<Key>, Error> {
        let kept = self.retired().saturating_add(2);
        self.check_count(kept)?;
        keys.push(new);
        let dropped = keys.len().saturating_sub(kept);
        Ok(keys.split_off(dropped))
    }

    /// The new key begins when every node has it. One whose successor has long begun is dropped.
    fn succeed(&self, mut keys: Vec<Key>, mut new: Key, now: u64) -> Result<Vec<Key>, Error> {
        new.times = Some(self.times(now.saturating_add(self.publish_ahead.as_secs())));
        // A clock that is far ahead must not drop what is in use. It looks like the end of a long
        // pause, after which old keys may as well go with the rotation after this one.
        let newest = self.newest(&keys, now).unwrap_or(now);
        let now = now.min(newest.saturating_add(self.interval.as_secs()));
        let mut begins: Vec<u64> = keys.iter().map(Key::begins).collect();
        begins.sort_unstable();
        let open = self.lifetime.saturating_add(self.publish_ahead).as_secs();
        keys.retain(|key| {
            let successor = begins.iter().find(|time| **time > key.begins());
            successor.is_none_or(|retired| retired.saturating_add(open) >= now)
        });
        keys.push(new);
        self.check_count(keys.len())?;
        Ok(keys)
    }

    /// H2O seals with a key until the next begins; longer, should that be late.
    pub(crate) fn times(&self, not_before: u64) -> Times {
        Times {
            not_before,
            not_after: not_before.saturating_add(self.life()),
        }
    }

    fn life(&self) -> u64 {
        self.interval.as_secs().saturating_mul(2)
    }
}
