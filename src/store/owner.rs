//! One state has one owner process: an OS lock, which the kernel drops with the process.

use super::{Result, StoreError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Holds the state while it lives.
#[derive(Debug)]
pub struct Owner {
    _file: File,
}

impl Owner {
    /// Becomes the owner of the state at `path`. `who` is what others are told: the process and since when.
    ///
    /// # Errors
    /// Names the holder if there is one.
    pub fn acquire(path: &Path, who: &str) -> Result<Self> {
        let lock = lock_path(path);
        let fail = |error: std::io::Error| StoreError::Open { path: lock.clone(), cause: error.to_string() };
        if let Some(folder) = lock.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        create_private(&lock).map_err(fail)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&lock).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The text is a courtesy; the lock is what counts.
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    "another linkspan".clone_into(&mut holder);
                }
                return Err(StoreError::Owned { holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(who.as_bytes())).map_err(fail)?;
        Ok(Self { _file: file })
    }

    /// Who owns the state at `path`, if anybody does.
    pub fn holder(path: &Path) -> Option<String> {
        let file = OpenOptions::new().read(true).write(true).open(lock_path(path)).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                (&file).read_to_string(&mut holder).ok()?;
                Some(holder.trim().to_owned())
            }
            _ => None,
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Makes an empty file that only its owner may read, if there is none. State holds personal data.
pub(super) fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let owner = Owner::acquire(&path, "pid 42").unwrap();
        assert!(matches!(Owner::acquire(&path, "pid 43"), Err(StoreError::Owned { holder }) if holder == "pid 42"));
        assert_eq!(Owner::holder(&path).as_deref(), Some("pid 42"));
        drop(owner);
        assert_eq!(Owner::holder(&path), None);
        Owner::acquire(&path, "pid 43").unwrap();
    }
}
