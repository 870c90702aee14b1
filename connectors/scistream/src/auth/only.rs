//! One token.

use futures_util::future::BoxFuture;
use ring::{hmac, rand::SystemRandom};

use super::{AuthError, Authenticator, Identity, TokensError, bare};

/// Lets in whoever has one token, as one identity. Only the token's code is kept in memory, and compared in constant time.
#[derive(Debug)]
pub struct OnlyToken {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl OnlyToken {
    /// This one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(token: &str) -> Result<Self, TokensError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| TokensError::Random)?;
        let tag = hmac::sign(&key, token.as_bytes());
        Ok(Self { key, tag })
    }
}

impl Authenticator for OnlyToken {
    fn authenticate<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let known = bare(token).and_then(|token| {
            let unknown = |_| AuthError::Unauthenticated("this control server does not know the token".into());
            hmac::verify(&self.key, token.as_bytes(), self.tag.as_ref()).map_err(unknown)
        });
        Box::pin(std::future::ready(known.map(|()| Identity::new("owner"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_token_is_let_in() {
        let only = OnlyToken::new("a-token").unwrap();
        only.authenticate(Some("a-token")).await.unwrap();
        for token in [None, Some(""), Some("a-toke"), Some("a-token2")] {
            assert!(matches!(only.authenticate(token).await, Err(AuthError::Unauthenticated(_))), "{token:?}");
        }
    }
}
