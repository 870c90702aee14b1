//! Tokens in a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use ring::{digest, hmac, rand::SystemRandom};

use super::{AuthError, Authenticator, Identity, bare};

/// Bits of a mode that let others than the owner read or change a file.
const OTHERS: u32 = 0o066;
/// Of a file of tokens, in bytes.
const LARGEST: u64 = 16 << 20;
/// Characters of a token that nobody guesses, in the usual alphabets.
const GUESSABLE: usize = 16;

/// Knows the tokens of a file: one in each line, behind the name of its owner or alone; `#` begins a comment. The file is read anew
/// when it changes; while it can't be, nobody is let in.
///
/// Tokens are compared with every one of the file in constant time, so that answers tell nothing of how close a guess is, and only
/// their codes are kept in memory.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Absent: the file was not there, or can't be read.
    stamp: Option<Stamp>,
    /// Absent: the file can't be used as it is.
    tokens: Option<Arc<Table>>,
}

/// What changes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    mode: u32,
}

#[derive(Debug)]
struct Table {
    key: hmac::Key,
    entries: Vec<(hmac::Tag, Identity)>,
}

/// Why a file of tokens can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It can't be read.
    #[error("cannot read the tokens in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others know them.
    #[error("others can read or change the tokens in {0}; chmod 600 {0}, and make new ones where they may have been read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: {problem}; expected `TOKEN` or `NAME TOKEN`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// There is none.
    #[error("{} holds no token, so nobody could get in; expected `TOKEN` or `NAME TOKEN` in each line", path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Tokens {
    /// Those of a file.
    ///
    /// # Errors
    /// It can't be used.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let (stamp, table) = read(path)?;
        Ok(Self { path: path.into(), known: Mutex::new(Known { stamp: Some(stamp), tokens: Some(Arc::new(table?)) }) })
    }

    /// Those that the file has now. A look at it costs a system call; reading happens when it changed.
    fn current(&self) -> Result<Arc<Table>, AuthError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata)).ok();
        if now.is_none() || now != known.stamp {
            let (stamp, tokens) = match read(&self.path) {
                Ok((stamp, Ok(table))) => {
                    tracing::info!(file = %self.path.display(), tokens = table.entries.len(), "read tokens anew");
                    (Some(stamp), Some(Arc::new(table)))
                }
                Ok((stamp, Err(error))) => {
                    tracing::error!("nobody is let in: {error}");
                    (Some(stamp), None)
                }
                Err(error) => {
                    if known.tokens.is_some() {
                        tracing::error!("nobody is let in: {error}");
                    }
                    (None, None)
                }
            };
            *known = Known { stamp, tokens };
        }
        let unavailable =
            || AuthError::Unavailable("this control server can't read its tokens; its log says why".into());
        known.tokens.clone().ok_or_else(unavailable)
    }
}

impl Authenticator for Tokens {
    fn authenticate<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let found = bare(token).and_then(|token| {
            let found = self.current()?.find(token.as_bytes());
            found.ok_or_else(|| AuthError::Unauthenticated("this control server does not know the token".into()))
        });
        Box::pin(std::future::ready(found))
    }
}

impl Table {
    /// All entries are looked at, whichever it is.
    fn find(&self, token: &[u8]) -> Option<Identity> {
        let mut found = None;
        for (tag, identity) in &self.entries {
            if hmac::verify(&self.key, token, tag.as_ref()).is_ok() {
                found = Some(identity);
            }
        }
        found.cloned()
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            // Set by the kernel alone, at changes of content, mode or name.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
        }
    }
}

/// What a file that is there holds, or why that is of no use.
fn read(path: &Path) -> Result<(Stamp, Result<Table, TokensError>), TokensError> {
    let mut text = String::new();
    let stamp = File::open(path)
        .and_then(|file| {
            // Of the file that was opened, whatever becomes of its name.
            let stamp = Stamp::of(&file.metadata()?);
            file.take(LARGEST).read_to_string(&mut text)?;
            Ok(stamp)
        })
        .map_err(|source| TokensError::Read { path: path.into(), source })?;
    let table =
        if stamp.mode & OTHERS == 0 { parse(path, &text) } else { Err(TokensError::Open { path: path.into() }) };
    Ok((stamp, table))
}

fn parse(path: &Path, text: &str) -> Result<Table, TokensError> {
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| TokensError::Random)?;
    let mut entries: Vec<(hmac::Tag, Identity)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |problem| TokensError::Line { path: path.into(), line: number + 1, problem };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, token) = match words[..] {
            [token] => (format!("token-{}", fingerprint(token)), token),
            [name, token] => (name.to_owned(), token),
            _ => return Err(wrong("has more than two words")),
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("has a token of other characters than ASCII's"));
        }
        if token.len() < GUESSABLE {
            tracing::warn!("the token of {name} can be guessed: `openssl rand -hex 16` makes a better one");
        }
        let tag = hmac::sign(&key, token.as_bytes());
        if entries.iter().any(|(other, _)| other.as_ref() == tag.as_ref()) {
            return Err(wrong("has a token that is there already"));
        }
        entries.push((tag, Identity::new(name)));
    }
    if entries.is_empty() {
        return Err(TokensError::None { path: path.into() });
    }
    Ok(Table { key, entries })
}

/// Tells tokens without a name apart, in logs and quotas, without telling them.
fn fingerprint(token: &str) -> String {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn with(text: &str) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.write(text, 0o600);
            place
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("tokens")
        }

        fn write(&self, text: &str, mode: u32) {
            let new = self.0.path().join("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        fn error(&self) -> String {
            Tokens::load(&self.path()).unwrap_err().to_string()
        }
    }

    async fn ask(tokens: &Tokens, token: &str) -> Result<String, AuthError> {
        tokens.authenticate(Some(token)).await.map(|identity| identity.to_string())
    }

    #[tokio::test]
    async fn tokens_are_their_owners() {
        let place = Place::with("# ours\n\n  alice 0123456789abcdef-a\nbob\t0123456789abcdef-b \n0123456789abcdef-c\n");
        let tokens = Tokens::load(&place.path()).unwrap();
        assert_eq!(ask(&tokens, "0123456789abcdef-a").await.unwrap(), "alice");
        assert_eq!(ask(&tokens, "Bearer 0123456789abcdef-b").await.unwrap(), "bob");
        let unnamed = ask(&tokens, "0123456789abcdef-c").await.unwrap();
        assert!(unnamed.starts_with("token-") && !unnamed.contains("0123456789abcdef"), "{unnamed}");
        for other in ["", "0123456789abcdef", "alice", "0123456789abcdef-a2", "Bearer ", "# ours"] {
            assert!(matches!(ask(&tokens, other).await, Err(AuthError::Unauthenticated(_))), "{other}");
        }
        assert!(matches!(tokens.authenticate(None).await, Err(AuthError::Unauthenticated(_))));
        assert!(!format!("{tokens:?}").contains("0123456789abcdef"));
    }

    #[tokio::test]
    async fn a_file_that_changed_is_read_anew() {
        let place = Place::with("alice first-token-of-hers\n");
        let tokens = Tokens::load(&place.path()).unwrap();
        ask(&tokens, "first-token-of-hers").await.unwrap();
        place.write("alice other-token-of-hers\n", 0o600);
        ask(&tokens, "first-token-of-hers").await.unwrap_err();
        ask(&tokens, "other-token-of-hers").await.unwrap();
        // In place, too.
        fs::write(place.path(), "alice third-token-of-hers").unwrap();
        ask(&tokens, "third-token-of-hers").await.unwrap();
    }

    #[tokio::test]
    async fn nobody_gets_in_while_the_file_is_of_no_use() {
        let place = Place::with("alice first-token-of-hers\n");
        let tokens = Tokens::load(&place.path()).unwrap();
        let unavailable = |told: Result<String, AuthError>| assert!(matches!(told, Err(AuthError::Unavailable(_))));
        fs::remove_file(place.path()).unwrap();
        unavailable(ask(&tokens, "first-token-of-hers").await);
        place.write("alice first-token-of-hers and more\n", 0o600);
        unavailable(ask(&tokens, "first-token-of-hers").await);
        place.write("alice first-token-of-hers\n", 0o640);
        unavailable(ask(&tokens, "first-token-of-hers").await);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
        ask(&tokens, "first-token-of-hers").await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_was_away_for_a_while_is_of_use_again() {
        let place = Place::with("alice first-token-of-hers\n");
        let tokens = Tokens::load(&place.path()).unwrap();
        // As a mount does, whose files come back as they were.
        let away = tempfile::tempdir().unwrap();
        let elsewhere = away.path().join("elsewhere");
        fs::rename(place.0.path(), &elsewhere).unwrap();
        ask(&tokens, "first-token-of-hers").await.unwrap_err();
        fs::rename(elsewhere, place.0.path()).unwrap();
        ask(&tokens, "first-token-of-hers").await.unwrap();
    }

    #[test]
    fn what_is_no_file_of_tokens_is_named() {
        let place = Place::with("# none\n");
        assert!(place.error().contains("tokens holds no token"), "{}", place.error());
        for (text, problem) in [
            ("a b c", "line 1: has more than two words"),
            ("x same-token-twice\ny same-token-twice", "line 2: has a token that is there"),
            ("ö-umlaut", "line 1: has a token of other characters"),
        ] {
            place.write(text, 0o600);
            assert!(place.error().contains(problem), "{}", place.error());
            assert!(!place.error().contains("same-token"), "{}", place.error());
        }
        for mode in [0o644, 0o620, 0o602] {
            place.write("alice first-token-of-hers\n", mode);
            assert!(place.error().contains("chmod 600"), "{}", place.error());
        }
        fs::remove_file(place.path()).unwrap();
        assert!(place.error().contains("No such file"), "{}", place.error());
    }
}
