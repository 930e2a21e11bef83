//! Passwords: what is kept of them, and how a client proves that it knows one.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes of a scramble.
pub(crate) const SALT: usize = 20;
/// A connection's challenge.
pub(crate) type Salt = [u8; SALT];

/// A way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthPlugin {
    /// `mysql_native_password`: SHA-1 challenge and response.
    Native,
    /// `caching_sha2_password`: SHA-256 challenge and response, or the password itself over TLS or RSA.
    CachingSha2,
}

impl AuthPlugin {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
        }
    }
    /// The plugin of that name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Native, Self::CachingSha2].into_iter().find(|plugin| plugin.name().as_bytes() == name)
    }
}

/// A password's salted hash, when nothing that suffices to log in may be kept. The first login of an account
/// then needs the password itself (over TLS or RSA); the server remembers a digest in memory for later ones.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedSha2 {
    /// Random bytes.
    pub salt: [u8; 20],
    /// How often the hash is applied.
    pub rounds: u32,
    /// The result.
    pub hash: [u8; 32],
}

impl SaltedSha2 {
    /// Hashes a password.
    pub fn new(password: &str, salt: [u8; 20], rounds: u32) -> Self {
        Self { salt, rounds, hash: Self::stretch(password.as_bytes(), &salt, rounds) }
    }
    fn stretch(password: &[u8], salt: &[u8; 20], rounds: u32) -> [u8; 32] {
        let mut hash: [u8; 32] = Sha256::new().chain_update(salt).chain_update(password).finalize().into();
        for _ in 1..rounds {
            hash = Sha256::new().chain_update(hash).chain_update(password).finalize().into();
        }
        hash
    }
    fn matches(&self, password: &[u8]) -> bool {
        same(&Self::stretch(password, &self.salt, self.rounds), &self.hash)
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// There is no password.
    Empty,
    /// Digests with which either plugin's challenge can be checked.
    Digests {
        /// SHA-1 of the SHA-1, for `mysql_native_password`; without it that plugin is not accepted.
        native: Option<[u8; 20]>,
        /// SHA-256 of the SHA-256, for `caching_sha2_password`.
        sha2: Option<[u8; 32]>,
    },
    /// A salted hash, for `caching_sha2_password` only.
    Salted(SaltedSha2),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Credential {
    /// Digests of a password for both plugins.
    pub fn from_password(password: &str) -> Self {
        if password.is_empty() {
            return Self::Empty;
        }
        let native: [u8; 20] = Sha1::digest(Sha1::digest(password)).into();
        Self::Digests { native: Some(native), sha2: Some(sha2_digest(password.as_bytes())) }
    }
    /// Whether the plugin can be used with it.
    pub(crate) fn supports(&self, plugin: AuthPlugin) -> bool {
        match (self, plugin) {
            (Self::Empty, _) => true,
            (Self::Digests { native, .. }, AuthPlugin::Native) => native.is_some(),
            (Self::Digests { sha2, .. }, AuthPlugin::CachingSha2) => sha2.is_some(),
            (Self::Salted(_), plugin) => plugin == AuthPlugin::CachingSha2,
        }
    }
    /// Whether the password is the right one.
    pub(crate) fn matches_password(&self, password: &[u8]) -> bool {
        match self {
            Self::Empty => password.is_empty(),
            Self::Digests { sha2: Some(digest), .. } => same(&sha2_digest(password), digest),
            Self::Digests { native: Some(digest), .. } => {
                let got: [u8; 20] = Sha1::digest(Sha1::digest(password)).into();
                same(&got, digest)
            }
            Self::Digests { native: None, sha2: None } => false,
            Self::Salted(salted) => salted.matches(password),
        }
    }
}

/// An account as the backend knows it.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its password.
    pub credential: Credential,
    /// Whether it may use the connection that is kept free when all others are taken.
    pub admin: bool,
}

/// SHA-256 of the SHA-256: what is remembered for `caching_sha2_password`.
pub(crate) fn sha2_digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(password)).into()
}

/// Checks `SHA1(password) XOR SHA1(salt, digest)`.
pub(crate) fn native_matches(response: &[u8], salt: &Salt, digest: &[u8; 20]) -> bool {
    let Ok(response) = <&[u8; 20]>::try_from(response) else { return false };
    let mask: [u8; 20] = Sha1::new().chain_update(salt).chain_update(digest).finalize().into();
    let once = xor(response, &mask);
    let twice: [u8; 20] = Sha1::digest(once).into();
    same(&twice, digest)
}

/// Checks `SHA256(password) XOR SHA256(digest, salt)`.
pub(crate) fn sha2_matches(response: &[u8], salt: &Salt, digest: &[u8; 32]) -> bool {
    let Ok(response) = <&[u8; 32]>::try_from(response) else { return false };
    let mask: [u8; 32] = Sha256::new().chain_update(digest).chain_update(salt).finalize().into();
    let once = xor(response, &mask);
    let twice: [u8; 32] = Sha256::digest(once).into();
    same(&twice, digest)
}

fn xor<const N: usize>(left: &[u8; N], right: &[u8; N]) -> [u8; N] {
    std::array::from_fn(|at| left[at] ^ right[at])
}

/// Compares without stopping at the first difference, so that time tells nothing.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// A new challenge: printable, and without `$` and zero bytes, which old clients end it at.
///
/// # Errors
///
/// When the system has no random numbers.
pub(crate) fn new_salt() -> Result<Salt, getrandom::Error> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt)?;
    for byte in &mut salt {
        *byte = b'!' + *byte % 94;
        if *byte == b'$' {
            *byte = b'%';
        }
    }
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_challenges_accept_the_password_and_nothing_else() {
        let salt = new_salt().expect("random numbers");
        let Credential::Digests { native: Some(native), sha2: Some(sha2) } =
            Credential::from_password("pässword")
        else {
            panic!("digests of both kinds")
        };
        for (password, right) in [("pässword", true), ("password", false)] {
            let once: [u8; 20] = Sha1::digest(password).into();
            let twice: [u8; 20] = Sha1::digest(once).into();
            let mask: [u8; 20] = Sha1::new().chain_update(salt).chain_update(twice).finalize().into();
            assert_eq!(native_matches(&xor(&once, &mask), &salt, &native), right);
            let once: [u8; 32] = Sha256::digest(password).into();
            let twice: [u8; 32] = Sha256::digest(once).into();
            let mask: [u8; 32] = Sha256::new().chain_update(twice).chain_update(salt).finalize().into();
            assert_eq!(sha2_matches(&xor(&once, &mask), &salt, &sha2), right);
        }
        assert!(!native_matches(b"", &salt, &native));
        assert!(!sha2_matches(&[0; 31], &salt, &sha2));
    }

    #[test]
    fn a_salted_hash_knows_its_password() {
        let credential = Credential::Salted(SaltedSha2::new("secret", [7; 20], 5000));
        assert!(credential.matches_password(b"secret"));
        assert!(!credential.matches_password(b"Secret"));
        assert!(!credential.supports(AuthPlugin::Native));
    }

    #[test]
    fn salts_differ_and_are_printable() {
        let (one, two) = (new_salt().expect("random"), new_salt().expect("random"));
        assert_ne!(one, two);
        assert!(one.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'$'));
    }
}
