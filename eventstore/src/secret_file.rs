//! Files that hold a secret: created once, as a whole, and readable for their owner only.

use std::{fs, io, io::Write as _, path::Path};

/// Creates the file with this content unless it exists; returns whether it did so. A process that dies meanwhile leaves no half-written
/// file under that name and nothing that prevents the next process from creating it. Of two processes one wins.
pub(crate) fn create_once(path: &Path, content: &[u8]) -> io::Result<bool> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    // A temporary file has a random name and mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        // The file's name must be on the disk, too.
        Ok(_) => fs::File::open(dir)?.sync_all().map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_made_once_and_readable_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/secret");
        assert!(create_once(&path, b"first").unwrap() && !create_once(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// A container's process has the same id at every start, and found the incomplete file of the process before it.
    #[test]
    fn what_a_killed_process_left_does_not_keep_the_next_one_from_making_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal-key.pem");
        for left in [format!("{}.new", std::process::id()), format!("{}.part", std::process::id())] {
            fs::write(path.with_extension(left), b"half").unwrap();
        }
        crate::seal::Sealer::open(&path).unwrap();
        assert!(path.with_extension("pub").exists());
    }
}
