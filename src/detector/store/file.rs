//! Model files on disk: replaced whole or not at all, and never lost to one that cannot be read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Model, read, rejected};
use crate::detector::{Error, Result};

/// Larger files are not read.
const LARGEST_READ: u64 = 1 << 30;
/// Files of one location that are kept aside.
const KEPT_ASIDE: u32 = 1000;

/// A file that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it was.
    pub location: PathBuf,
    /// A sentence that names the field and what was expected.
    pub reason: String,
    /// Where it is now; `None` where it could not be moved.
    pub kept_as: Option<PathBuf>,
}

/// What became of a location.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The model, and the size of its file in bytes.
    pub model: Option<(Model, u64)>,
    /// Files that were not loaded, and are now kept aside.
    pub refused: Vec<Refusal>,
}

fn with_suffix(location: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(location);
    name.push(suffix);
    name.into()
}

/// The file that keeps the previous model of a location.
pub fn backup(location: &Path) -> PathBuf {
    with_suffix(location, ".bak")
}

/// Replaces the file at `location`: the content is written beside it, synced and renamed, and the folder is synced. The
/// previous file becomes the [`backup`]. Whenever the process or the machine stops, one of the two is whole.
///
/// # Errors
/// The first operation that failed; the previous file is still there then.
pub fn save(location: &Path, content: &[u8]) -> io::Result<()> {
    /// Files beside a location have fixed names, so that none is left over; one at a time is written.
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);

    let beside = with_suffix(location, ".tmp");
    let written = write_synced(&beside, content).and_then(|()| replace(&beside, location));
    if written.is_err() {
        // Its absence is as good.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn replace(beside: &Path, location: &Path) -> io::Result<()> {
    let previous = backup(location);
    match fs::rename(location, &previous) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(beside, location)?,
        Err(e) => return Err(e),
        Ok(()) => fs::rename(beside, location).or_else(|e| {
            fs::rename(&previous, location)?;
            Err(e)
        })?,
    }
    sync_folder(location)
}

/// Makes the names in the folder of `location` durable.
fn sync_folder(location: &Path) -> io::Result<()> {
    let folder = location.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Moves a file that cannot be used to a name beside its own, which is free, and returns that.
///
/// # Errors
/// It cannot be moved.
pub fn set_aside(location: &Path) -> io::Result<PathBuf> {
    for number in 1..=KEPT_ASIDE {
        let aside = with_suffix(location, &format!(".refused-{number}"));
        if !aside.try_exists()? {
            fs::rename(location, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other(format!(
        "{KEPT_ASIDE} files are kept beside {} already",
        location.display()
    )))
}

/// The model at `location`. Its file stays as it is.
///
/// # Errors
/// The file cannot be read, or holds no model of this format; the message says which field was expected to be what.
pub fn open(location: &Path) -> Result<(Model, u64)> {
    let content = content(location).map_err(|error| Error::File {
        path: location.to_owned(),
        error,
    })?;
    Ok((read(&content)?, content.len() as u64))
}

/// Reads a file of a bounded size. Devices and pipes, which may never end, are not opened.
pub(crate) fn content(location: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(location)?;
    if !metadata.is_file() || metadata.len() > LARGEST_READ {
        let size = format!("a file of {} bytes", metadata.len());
        let error = rejected(
            "file",
            format!("a regular file of at most {LARGEST_READ} bytes"),
            size,
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
    }
    let mut content = Vec::with_capacity(metadata.len() as usize);
    File::open(location)?
        .take(LARGEST_READ)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// The model at `location`, or the one that its [`backup`] keeps where that is missing or broken. What cannot be read is
/// set aside.
pub fn load(location: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    for path in [location.to_owned(), backup(location)] {
        match open(&path) {
            Ok(model) => {
                loaded.model = Some(model);
                break;
            }
            Err(Error::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => loaded.refused.push(Refusal {
                reason: error.to_string(),
                kept_as: set_aside(&path).ok(),
                location: path,
            }),
        }
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_file_is_kept_until_the_next_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("model");
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        save(&location, b"first").unwrap();
        assert_eq!(text(&location), "first");
        assert!(!backup(&location).exists());
        save(&location, b"second").unwrap();
        save(&location, b"third").unwrap();
        assert_eq!(
            (text(&location), text(&backup(&location))),
            ("third".into(), "second".into())
        );
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing else is left over"
        );
    }

    #[test]
    fn where_nothing_can_be_written_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("model");
        save(&location, b"first").unwrap();
        // A folder where the next one would be written, which stops root as well.
        fs::create_dir(with_suffix(&location, ".tmp")).unwrap();
        assert!(save(&location, b"second").is_err());
        assert_eq!(fs::read(&location).unwrap(), b"first");
        fs::remove_dir(with_suffix(&location, ".tmp")).unwrap();
        // A folder named like the backup, which no file replaces.
        fs::create_dir(backup(&location)).unwrap();
        assert!(save(&location, b"second").is_err());
        assert_eq!(fs::read(&location).unwrap(), b"first");
        fs::remove_dir(backup(&location)).unwrap();
        save(&location, b"second").unwrap();
        assert_eq!(fs::read(&location).unwrap(), b"second");
    }

    #[test]
    fn what_may_never_end_is_not_read() {
        let message = open(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(
            message.contains("expected a regular file of at most"),
            "{message}"
        );
    }

    #[test]
    fn files_that_cannot_be_read_are_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("model");
        assert!(load(&location).model.is_none() && load(&location).refused.is_empty());
        for number in 1..=3 {
            fs::write(&location, format!("foreign {number}")).unwrap();
            let loaded = load(&location);
            let [refusal] = &loaded.refused[..] else {
                panic!("{loaded:?}")
            };
            assert!(refusal.reason.contains("a safetensors file"), "{refusal:?}");
            let kept = refusal.kept_as.as_ref().unwrap();
            assert_eq!(fs::read_to_string(kept).unwrap(), format!("foreign {number}"));
            assert!(!location.exists());
        }
    }
}
