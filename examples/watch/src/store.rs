//! The database of events: SQLite, one file in the storage folder.
//!
//! It is in WAL mode: what was committed is there after the process was killed, and a reader never waits for a writer.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use crate::recorder::is_playable;
use crate::state::{Event, Millis, lock};

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
#[error("database: {0}")]
pub struct StoreError(#[from] rusqlite::Error);

impl StoreError {
    /// Whether it is for lack of space.
    pub fn is_full(&self) -> bool {
        self.0.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// What to list of the events.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this camera.
    pub camera: Option<String>,
    /// Only those that end at this time or later, or are open.
    pub from: Option<Millis>,
    /// Only those that begin before this time.
    pub to: Option<Millis>,
    /// Only those with a smaller id: for the next page.
    pub before: Option<i64>,
    /// At most this many; 0 = 100.
    pub limit: u32,
}

/// The database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

/// `user_version` of the tables below.
const VERSION: i32 = 2;

const TABLES: &str = "
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        camera TEXT NOT NULL,
        number INTEGER NOT NULL,
        begin INTEGER NOT NULL,
        end INTEGER,
        reason TEXT,
        peak REAL NOT NULL,
        peak_time INTEGER NOT NULL,
        cue TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        regions TEXT NOT NULL,
        thumbnail TEXT,
        clip TEXT,
        clip_begin INTEGER,
        clip_done INTEGER NOT NULL,
        accepted INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX events_by_camera ON events (camera, id);
    CREATE INDEX events_by_end ON events (end);
    CREATE INDEX events_by_clip ON events (clip) WHERE clip IS NOT NULL;
    CREATE TABLE settings (
        camera TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (camera, name)
    ) STRICT;
    PRAGMA user_version = 2;
";

const FROM_VERSION_1: &str = "ALTER TABLE events ADD COLUMN clip_begin INTEGER; PRAGMA user_version = 2;";

const COLUMNS: &str = "id, camera, number, begin, end, reason, peak, peak_time, cue, width, height, regions, thumbnail, \
                       clip, clip_begin, clip_done, accepted";

impl Store {
    /// Opens the database in a folder, which is created if missing. Events that were open when the last process ended are
    /// closed, with the reason `interrupted`; so are their clips, except for those in which nothing can be played.
    ///
    /// # Errors
    /// The folder cannot be created, or the file is no database or one of a newer version.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        use anyhow::Context;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let file = folder.join("events.sqlite");
        let connection =
            Connection::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
        let store = Self {
            connection: Arc::new(Mutex::new(connection)),
        };
        store
            .prepare(folder)
            .with_context(|| format!("cannot use {}", file.display()))?;
        Ok(store)
    }

    fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        let mut connection = lock(&self.connection);
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            VERSION => {}
            0 | 1 => {
                let tables = connection.transaction()?;
                tables.execute_batch(if version == 0 { TABLES } else { FROM_VERSION_1 })?;
                tables.commit()?;
            }
            newer => anyhow::bail!("it is of version {newer}, this program knows {VERSION}"),
        }
        connection.execute(
            "UPDATE events SET end = max(begin, peak_time), reason = 'interrupted' WHERE end IS NULL",
            (),
        )?;
        let mut open = connection
            .prepare("SELECT DISTINCT clip FROM events WHERE clip IS NOT NULL AND clip_done = 0")?;
        let clips: Vec<String> = open.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
        for clip in clips {
            let file = folder.join(&clip);
            let end = match is_playable(&file) {
                true => "UPDATE events SET clip_done = 1 WHERE clip = ?1",
                false => {
                    // There may be none.
                    let _ = std::fs::remove_file(file);
                    "UPDATE events SET clip = NULL, clip_begin = NULL WHERE clip = ?1"
                }
            };
            connection.execute(end, [&clip])?;
        }
        Ok(())
    }

    /// Inserts an event, or replaces what is stored of it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn put(&self, event: &Event) -> Result<(), StoreError> {
        let regions = serde_json::to_string(&event.regions).unwrap_or_else(|_| "[]".to_owned());
        lock(&self.connection).execute(
            "INSERT INTO events (id, camera, number, begin, end, reason, peak, peak_time, cue, width, height, regions, \
                 thumbnail, clip, clip_begin, clip_done, accepted) \
             VALUES (:id, :camera, :number, :begin, :end, :reason, :peak, :peak_time, :cue, :width, :height, :regions, \
                 :thumbnail, :clip, :clip_begin, :clip_done, :accepted) \
             ON CONFLICT (id) DO UPDATE SET end = :end, reason = :reason, peak = :peak, peak_time = :peak_time, \
                 cue = :cue, regions = :regions, thumbnail = :thumbnail, clip = :clip, \
                 clip_begin = :clip_begin, clip_done = :clip_done, \
                 accepted = max(accepted, :accepted)",
            named_params! {
                ":id": event.id,
                ":camera": event.camera,
                ":number": event.number as i64,
                ":begin": event.begin,
                ":end": event.end,
                ":reason": event.reason,
                ":peak": event.peak,
                ":peak_time": event.peak_time,
                ":cue": event.cue,
                ":width": event.width,
                ":height": event.height,
                ":regions": regions,
                ":thumbnail": event.thumbnail,
                ":clip": event.clip,
                ":clip_begin": event.clip_begin,
                ":clip_done": event.clip_done,
                ":accepted": event.accepted,
            },
        )?;
        Ok(())
    }

    /// An event by its id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn event(&self, id: i64) -> Result<Option<Event>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
        let connection = lock(&self.connection);
        Ok(connection.query_row(&query, [id], read_event).optional()?)
    }

    /// Events, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn events(&self, filter: &Filter) -> Result<Vec<Event>, StoreError> {
        let mut query = format!("SELECT {COLUMNS} FROM events WHERE 1");
        let mut values: Vec<&dyn ToSql> = Vec::new();
        let mut add = |condition: &str, value| {
            query.push_str(condition);
            values.push(value);
        };
        if let Some(camera) = &filter.camera {
            add(" AND camera = ?", camera);
        }
        if let Some(from) = &filter.from {
            add(" AND (end IS NULL OR end >= ?)", from);
        }
        if let Some(to) = &filter.to {
            add(" AND begin < ?", to);
        }
        if let Some(before) = &filter.before {
            add(" AND id < ?", before);
        }
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        query.push_str(" ORDER BY id DESC LIMIT ?");
        values.push(&limit);
        let connection = lock(&self.connection);
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map(&*values, read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number of all events.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        let count: i64 =
            lock(&self.connection).query_row("SELECT count(*) FROM events", (), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Stores that an event was accepted.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn accept(&self, id: i64) -> Result<(), StoreError> {
        lock(&self.connection).execute("UPDATE events SET accepted = 1 WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Events that ended before this time, the oldest first, a thousand at most.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn ended_before(&self, time: Millis) -> Result<Vec<Event>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM events WHERE end < ?1 ORDER BY end LIMIT 1000");
        let connection = lock(&self.connection);
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([time], read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes an event. Returns its clip if no other event is in it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn remove(&self, id: i64) -> Result<Option<String>, StoreError> {
        let mut connection = lock(&self.connection);
        let transaction = connection.transaction()?;
        let clip: Option<Option<String>> = transaction
            .query_row("DELETE FROM events WHERE id = ?1 RETURNING clip", [id], |row| {
                row.get(0)
            })
            .optional()?;
        let clip = clip.flatten();
        let used: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM events WHERE clip = ?1)",
            [&clip],
            |row| row.get(0),
        )?;
        transaction.commit()?;
        Ok(clip.filter(|_| !used))
    }

    /// Stores that a clip was removed. Returns the events that were in it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn remove_clip(&self, path: &str) -> Result<Vec<Event>, StoreError> {
        let query = format!(
            "UPDATE events SET clip = NULL, clip_begin = NULL, clip_done = 0 WHERE clip = ?1 RETURNING {COLUMNS}"
        );
        let connection = lock(&self.connection);
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([path], read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a clip may still be written: an event is in it and it is not complete, or no event is known yet.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn is_clip_open(&self, path: &str) -> Result<bool, StoreError> {
        let query = "SELECT coalesce(min(clip_done), 0) = 0 FROM events WHERE clip = ?1";
        Ok(lock(&self.connection).query_row(query, [path], |row| row.get(0))?)
    }

    /// Changed properties of all cameras: camera, name, value.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn settings(&self) -> Result<Vec<(String, String, String)>, StoreError> {
        let connection = lock(&self.connection);
        let mut statement = connection.prepare("SELECT camera, name, value FROM settings ORDER BY rowid")?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores a changed property, or removes it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set_setting(&self, camera: &str, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let connection = lock(&self.connection);
        match value {
            Some(value) => connection.execute(
                "INSERT OR REPLACE INTO settings (camera, name, value) VALUES (?1, ?2, ?3)",
                params![camera, name, value],
            )?,
            None => connection.execute(
                "DELETE FROM settings WHERE camera = ?1 AND name = ?2",
                params![camera, name],
            )?,
        };
        Ok(())
    }

    /// The largest id of an event, 0 without events.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_event(&self) -> Result<i64, StoreError> {
        let query = "SELECT coalesce(max(id), 0) FROM events";
        Ok(lock(&self.connection).query_row(query, (), |row| row.get(0))?)
    }
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let regions: String = row.get("regions")?;
    Ok(Event {
        id: row.get("id")?,
        camera: row.get("camera")?,
        number: row.get::<_, i64>("number")?.unsigned_abs(),
        begin: row.get("begin")?,
        end: row.get("end")?,
        reason: row.get("reason")?,
        peak: row.get("peak")?,
        peak_time: row.get("peak_time")?,
        cue: row.get("cue")?,
        width: row.get("width")?,
        height: row.get("height")?,
        regions: serde_json::from_str(&regions).unwrap_or_default(),
        thumbnail: row.get("thumbnail")?,
        clip: row.get("clip")?,
        clip_begin: row.get("clip_begin")?,
        clip_done: row.get("clip_done")?,
        accepted: row.get("accepted")?,
    })
}
