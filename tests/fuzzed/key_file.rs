//! What may stand in a key file.
#![allow(unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use rustls_resumption::KeyFiles;
use tempfile::TempDir;

/// Two files in a directory of their own.
struct Files {
    _directory: TempDir,
    paths: [PathBuf; 2],
}

impl Files {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let paths = ["first", "second"].map(|name| directory.path().join(name));
        for path in &paths {
            fs::write(path, "").unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        Self {
            _directory: directory,
            paths,
        }
    }
}

/// Reads the bytes as one file, or divided into two, and looks at what is said of them.
pub fn run(data: &[u8]) {
    thread_local! {
        static FILES: Files = Files::new();
    }
    let Some((&at, content)) = data.split_first() else {
        return;
    };
    FILES.with(|files| {
        let contents = match at {
            0 => vec![content],
            at => {
                let (first, second) = content.split_at(content.len().min(at.into()));
                vec![first, second]
            }
        };
        for (path, content) in files.paths.iter().zip(&contents) {
            fs::write(path, content).unwrap();
        }
        let paths = &files.paths[..contents.len()];
        let Err(error) = KeyFiles::new(paths).unwrap().check() else {
            return;
        };
        let error = error.to_string();
        let unnamed = files.paths.iter().fold(error.clone(), |error, path| {
            error.replace(&path.display().to_string(), "")
        });
        assert_ne!(unnamed, error, "it names the file");
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let content = String::from_utf8_lossy(content);
        let words = content.split(|c| !is_base64(c));
        for word in words.filter(|word| word.len() >= 12) {
            assert!(
                !unnamed.contains(word),
                "it shows what may be a key: {error}"
            );
        }
    });
}
