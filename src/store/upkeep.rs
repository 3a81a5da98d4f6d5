//! Care for the file as a whole: a copy of it, whether it is sound, and the room that nobody uses any more.

use super::{Record, Result, Store, StoreError, Tx, forget, owner};
use crate::model::{BrevoContactId, ConversationId, IntercomCompanyId, IntercomContactId};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Mistakes of the file that are named; SQLite stops looking after as many.
const MOST_FAULTS: usize = 100;

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Intercom's views of contacts.
    Intercom,
    /// Brevo's views of contacts.
    Brevo,
    /// Companies of Intercom's.
    Companies,
    /// Conversations.
    Conversations,
    /// Links.
    Links,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Intercom, Self::Brevo, Self::Companies, Self::Conversations, Self::Links];
}

impl Store {
    /// Writes a copy of the state as it is at one moment to a file that must not exist yet, readable for its owner alone,
    /// without the room that nobody uses. Whoever owns the state goes on meanwhile. The copy is on the disk, under its name,
    /// when this returns; what a killed process leaves behind has `.partial` at its end. How many bytes it has.
    ///
    /// # Errors
    /// If there is a file already, the disk is full, or SQLite says no: then there is no copy.
    pub async fn back_up(&self, to: &Path) -> Result<u64> {
        let to = to.to_owned();
        self.call(move |connection| back_up(connection, &to)).await
    }

    /// What SQLite finds wrong with the file, in its words, which name tables and rows and nobody. Nothing: it is sound.
    /// Reads all of it.
    ///
    /// # Errors
    /// If it cannot even be looked at.
    pub async fn faults(&self) -> Result<Vec<String>> {
        self.call(|connection| {
            let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MOST_FAULTS})"))?;
            let said: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(if said == ["ok"] { Vec::new() } else { said })
        })
        .await
    }

    /// Builds the file anew without the room that nobody uses. How many bytes it had and has. `None` instead of the latter:
    /// somebody reads beside us, and it shrinks once they are done.
    ///
    /// # Errors
    /// If the disk is full (it takes room for a copy), or SQLite says no.
    pub async fn vacuum(&self) -> Result<(u64, Option<u64>)> {
        self.call(|connection| {
            let before = size(connection)?;
            forget::rebuild(connection)?;
            let emptied = forget::empty_log(connection)?;
            Ok((before, emptied.then(|| size(connection)).transpose()?))
        })
        .await
    }
}

impl Tx<'_> {
    /// The next records of a kind after this one (`None`: the first).
    pub fn some_after(&self, kind: Kind, after: Option<&Record>, most: usize) -> Result<Vec<Record>> {
        // Whatever is last, everything of the first batch comes after these.
        let text = match after {
            Some(Record::Intercom(id)) => id.as_str(),
            Some(Record::Company(id)) => id.as_str(),
            Some(Record::Conversation(id)) => id.as_str(),
            _ => "",
        };
        let number = match after {
            Some(Record::Brevo(id)) => id.get(),
            Some(Record::Link(id)) => *id,
            _ => i64::MIN,
        };
        match kind {
            Kind::Intercom => {
                let sql = "SELECT id FROM intercom_contacts WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.ids(sql, (text, most), |id: String| Record::Intercom(IntercomContactId::new(id)))
            }
            Kind::Brevo => {
                let sql = "SELECT id FROM brevo_contacts WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.ids(sql, (number, most), |id| Record::Brevo(BrevoContactId::new(id)))
            }
            Kind::Companies => {
                let sql = "SELECT id FROM companies WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.ids(sql, (text, most), |id: String| Record::Company(IntercomCompanyId::new(id)))
            }
            Kind::Conversations => {
                let sql = "SELECT id FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.ids(sql, (text, most), |id: String| Record::Conversation(ConversationId::new(id)))
            }
            Kind::Links => {
                let sql = "SELECT id FROM links WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.ids(sql, (number, most), Record::Link)
            }
        }
    }

    fn ids<T: FromSql>(&self, sql: &str, from: impl Params, record: impl Fn(T) -> Record) -> Result<Vec<Record>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let ids = statement.query_map(from, |row| row.get(0).map(&record))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }
}

fn size(connection: &Connection) -> Result<u64> {
    let of = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(of("page_count")?.unsigned_abs() * of("page_size")?.unsigned_abs())
}

fn back_up(connection: &Connection, to: &Path) -> Result<u64> {
    let fail = |cause: String| StoreError::Open { path: to.to_owned(), cause };
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(fail("there is something of this name already, and it is left alone".to_owned()));
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = write_copy(connection, to, &partial);
    if written.is_err() {
        // Half a copy is none. That it cannot be removed changes nothing about that.
        std::fs::remove_file(&partial).ok();
    }
    written
}

fn write_copy(connection: &Connection, to: &Path, partial: &Path) -> Result<u64> {
    let fail = |error: std::io::Error| StoreError::Open { path: to.to_owned(), cause: error.to_string() };
    let unnamable = || fail(std::io::Error::other("its name is not UTF-8"));
    // SQLite copies into an empty file only, and whoever may read what an earlier try has left may read that alone.
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
        _ => owner::create_private(partial).map_err(fail)?,
    }
    let file = File::options().write(true).open(partial).map_err(fail)?;
    connection.execute("VACUUM INTO ?1", [partial.to_str().ok_or_else(unnamable)?])?;
    // SQLite leaves it to us to bring it to the disk.
    file.sync_all().map_err(fail)?;
    std::fs::rename(partial, to).map_err(fail)?;
    #[cfg(unix)]
    {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
    }
    Ok(file.metadata().map_err(fail)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Calling;
    use crate::store::links::Dirty;

    async fn filled(path: &Path) -> Store {
        let store = Store::open(path, Calling::Inline).unwrap();
        store
            .write(|tx| {
                for _ in 0..1_000 {
                    tx.new_link(None, None, Dirty::No)?;
                }
                tx.set_meta("who", "the owner")
            })
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn a_backup_is_private_whole_and_written_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(&folder.path().join("x.db")).await;
        let copy = folder.path().join("copy.db");
        // What an earlier try has left is in nobody's way.
        std::fs::write(folder.path().join("copy.db.partial"), "half").unwrap();
        let bytes = store.back_up(&copy).await.unwrap();
        let metadata = std::fs::metadata(&copy).unwrap();
        assert_eq!(metadata.len(), bytes);
        assert!(!folder.path().join("copy.db.partial").exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(store.back_up(&copy).await, Err(StoreError::Open { .. })), "it is there");
        assert!(store.back_up(&folder.path().join("nowhere/copy.db")).await.is_err());
        let opened = Store::open(&copy, Calling::Inline).unwrap();
        assert_eq!(opened.faults().await.unwrap(), Vec::<String>::new());
        assert_eq!(opened.read(|tx| tx.meta("who")).await.unwrap().as_deref(), Some("the owner"));
    }

    #[tokio::test]
    async fn all_records_are_gone_through_a_few_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(&folder.path().join("x.db")).await;
        let seen = store
            .read(|tx| {
                let (mut seen, mut last) = (0, None);
                loop {
                    let some = tx.some_after(Kind::Links, last.as_ref(), 7)?;
                    seen += some.len();
                    let Some(end) = some.last().cloned() else { return Ok(seen) };
                    last = Some(end);
                }
            })
            .await;
        assert_eq!(seen.unwrap(), 1_000);
    }

    #[tokio::test]
    async fn room_that_nobody_uses_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let store = filled(&path).await;
        store.call(|connection| Ok(connection.execute("DELETE FROM links", [])?)).await.unwrap();
        let (before, after) = store.vacuum().await.unwrap();
        assert!(after.unwrap() < before, "{before} {after:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), after.unwrap());
    }
}
