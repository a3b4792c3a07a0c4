use std::fmt::Display;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use crate::clock::Time;
use crate::source::SourceError;

/// What was read from a file.
pub(super) struct Contents {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) modified: Time,
    /// Why it must not be used, although it could be read.
    pub(super) wrong: Option<String>,
}

/// The longest file that is read: more than a list of the most keys takes, in H2O's format too.
pub(super) const MAX_LEN: usize = 32 * 1024;
const TOO_LONG: usize = MAX_LEN + 1;

impl Contents {
    pub(super) fn read(path: &Path) -> Result<Self, SourceError> {
        let at = |wrong: &dyn Display| format!("{}: {wrong}", path.display());
        // Before it is opened: opening a FIFO may block for ever.
        if !fs::metadata(path).map_err(|error| at(&error))?.is_file() {
            return Err(at(&"not a regular file").into());
        }
        let mut file = File::open(path).map_err(|error| at(&error))?;
        let metadata = file.metadata().map_err(|error| at(&error))?;
        let wrong = check_permissions(&metadata).err();
        // It never grows, so it leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOO_LONG));
        let mut limited = Read::by_ref(&mut file).take(TOO_LONG as u64);
        let read = limited.read_to_end(&mut bytes);
        read.map_err(|error| at(&error))?;
        if bytes.len() > MAX_LEN {
            return Err(at(&format!("more than {MAX_LEN} bytes: not a key file")).into());
        }
        let modified = metadata.modified().map_or(Time(u64::MAX), Time::from);
        Ok(Self {
            bytes,
            modified,
            wrong,
        })
    }
}

/// Refuses a file that anyone but its owner may change, or anyone but its owner and group may read.
#[cfg(unix)]
fn check_permissions(metadata: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    let who = match mode {
        mode if mode & 0o007 != 0 => "anyone",
        mode if mode & 0o020 != 0 => "the group",
        _ => return Ok(()),
    };
    let what = match who {
        "anyone" if mode & 0o004 != 0 => "read",
        _ => "change",
    };
    let mount = match mode {
        0o444 => " (for a Docker secret, `mode: 0440` where it is granted to the service)",
        0o644 => " (for a Kubernetes secret, `defaultMode: 0440` on the volume)",
        _ => "",
    };
    Err(format!(
        "mode {mode:o}: {who} may {what} it: `chmod 600`, or 640 if the group is to read it{mount}"
    ))
}

#[cfg(not(unix))]
fn check_permissions(_metadata: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_of_32_kib() {
        assert_eq!(MAX_LEN, 32_768);
    }
}
