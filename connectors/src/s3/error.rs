//! What went wrong at the service, and what to do about it.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::{Bucket, NAME};
use crate::ConnectorError;

/// As much of an answer that is not S3's as an error shows, characters.
const SHOWN: usize = 300;

/// Makes errors that name the bucket.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    connector: String,
}

impl Failures {
    pub(super) fn new(bucket: &Bucket) -> Self {
        Self { connector: format!("{NAME} {bucket}") }
    }

    /// The service refused, or could not be reached. The library's error is not kept: it may show parts of credentials.
    pub(super) fn refused(&self, action: &str, error: &object_store::Error) -> ConnectorError {
        let text = innermost(error);
        let code = between(&text, "<Code>", "</Code>");
        let remedy = match code {
            Some("NoSuchBucket") => " (make the bucket, or name another with --ps-s3-bucket)",
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "NotSignedUp") => {
                " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment must be this service's)"
            }
            Some("AccessDenied") => {
                " (the credentials must allow to list the bucket, and to get, put and delete objects)"
            }
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect") => " (--ps-s3-region must be the bucket's)",
            Some(_) => "",
            None => " (is the service running? --ps-s3-endpoint names it)",
        };
        let reason = match (code, between(&text, "<Message>", "</Message>")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => text.chars().take(SHOWN).collect(),
        };
        ConnectorError::Refused { connector: self.connector.clone(), action: action.into(), reason: reason + remedy }
    }

    pub(super) fn late(&self, action: &str, limit: Duration) -> ConnectorError {
        self.io(action, io::Error::new(io::ErrorKind::TimedOut, format!("not done within {limit:?}")))
    }

    pub(super) fn io(&self, action: &str, source: io::Error) -> ConnectorError {
        ConnectorError::Io { connector: self.connector.clone(), action: action.into(), source }
    }

    pub(super) fn unusable(&self, reason: String) -> ConnectorError {
        ConnectorError::Unreachable { connector: self.connector.clone(), reason }
    }

    pub(super) fn protocol(&self, action: &str, reason: String) -> ConnectorError {
        ConnectorError::Protocol { connector: self.connector.clone(), action: action.into(), reason }
    }
}

/// Whether it is the object that is missing, and not its bucket.
pub(super) fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !innermost(error).contains("<Code>NoSuchBucket</Code>")
}

/// The last cause, which the library's own texts only wrap, in one line.
fn innermost(error: &object_store::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures { connector: "s3 data".into() }
    }

    fn error(body: &str) -> object_store::Error {
        object_store::Error::PermissionDenied { path: "x".into(), source: body.into() }
    }

    #[test]
    fn s3s_own_words_are_shown_without_what_identifies_the_user() {
        let body = "403 Forbidden: <?xml?>\n<Error><Code>SignatureDoesNotMatch</Code>\n<Message>It differs.</Message>\
                    <AWSAccessKeyId>AKIA123</AWSAccessKeyId></Error>";
        let text = failures().refused("put x", &error(body)).to_string();
        assert!(text.starts_with("s3 data: put x: SignatureDoesNotMatch: It differs. (AWS_ACCESS_KEY_ID"), "{text}");
        assert!(!text.contains("AKIA123") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn an_answer_that_is_not_s3s_is_shortened() {
        let text = failures().refused("put x", &error(&"x".repeat(10_000))).to_string();
        assert!(text.len() < 500 && text.contains("--ps-s3-endpoint"), "{text}");
    }
}
