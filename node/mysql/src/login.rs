//! Authentication as a state machine: payloads in, packets and steps out. No IO, no clock.
//!
//! ```text
//! AwaitResponse ──TLS──▶ AwaitResponse (encrypted)
//!       │ ──other plugin──▶ Switched ──┐
//!       ▼                              ▼
//!   check ◀────────────────────────── check ──caching_sha2, digest unknown──▶ FullAuth ──key asked──▶ FullAuth
//!       └──▶ Done or Refused
//! ```
//! An unknown user goes the same way as a known one up to the refusal.

use crate::constants::CapabilityFlags as Caps;
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{Oaep, RsaPrivateKey};
use sha1::Sha1;

use crate::auth::{self, Account, AuthPlugin, Credential, Salt};
use crate::error::MysqlError;
use crate::handshake::{Greeting, Identity, Response, offered, write_auth_switch};
use crate::packet::PacketWriter;

/// What authentication needs to know; the server implements it.
pub(crate) trait Authenticator {
    /// The account of a user, if there is one.
    fn account(&self, user: &str, host: &str) -> Option<Account>;
    /// The digest of a password that has been proven before under a salted credential.
    fn remembered(&self, user: &str, credential: &Credential) -> Option<[u8; 32]>;
    /// Remembers one.
    fn remember(&self, user: &str, credential: &Credential, digest: [u8; 32]);
    /// The server's RSA key, for passwords over connections without TLS.
    fn rsa_key(&self) -> Option<&RsaPrivateKey>;
}

/// What to do after a payload.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send what was written and wait for the next payload.
    Continue,
    /// Begin TLS; nothing was written.
    StartTls,
    /// The client is who it says.
    Done(Box<LoggedIn>),
    /// Send the error and close.
    Refused(MysqlError),
}

/// A client that has proven who it is.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) capabilities: Caps,
    pub(crate) collation: u16,
    pub(crate) user: String,
    pub(crate) database: Option<String>,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) admin: bool,
}

#[derive(Debug)]
enum State {
    AwaitResponse,
    /// An auth switch has been sent; the response to it is due.
    Switched(AuthPlugin),
    /// `caching_sha2_password` wants the password itself.
    FullAuth,
}

/// A login under way.
#[derive(Debug)]
pub(crate) struct Login {
    state: State,
    salt: Salt,
    host: String,
    /// What the greeting said.
    announced: AuthPlugin,
    offered: Caps,
    encrypted: bool,
    identity: Option<Identity>,
    /// For the message: whether a password was given at all.
    gave_password: bool,
}

impl Login {
    /// A login by the first packets of a connection; the greeting is written.
    pub(crate) fn greet(
        version: &str,
        connection: u32,
        host: String,
        plugin: AuthPlugin,
        tls: bool,
        out: &mut PacketWriter,
    ) -> Result<Self, getrandom::Error> {
        let login = Self {
            state: State::AwaitResponse,
            salt: auth::new_salt()?,
            host,
            announced: plugin,
            offered: offered(tls),
            encrypted: false,
            identity: None,
            gave_password: false,
        };
        let capabilities = login.offered;
        Greeting { version, connection, salt: &login.salt, capabilities, plugin }.write(out);
        Ok(login)
    }

    /// A login by COM_CHANGE_USER. The client's response is to a challenge of long ago, so it is asked again.
    pub(crate) fn change_user(
        identity: Identity,
        host: String,
        encrypted: bool,
        authenticator: &dyn Authenticator,
        out: &mut PacketWriter,
    ) -> Result<(Self, Step), getrandom::Error> {
        let plugin = identity.plugin.as_deref().and_then(AuthPlugin::from_name).unwrap_or(AuthPlugin::Native);
        let mut login = Self {
            state: State::AwaitResponse,
            salt: auth::new_salt()?,
            host,
            announced: plugin,
            offered: identity.capabilities,
            encrypted,
            identity: Some(identity),
            gave_password: true,
        };
        let credential = login.account(authenticator).map(|account| account.credential);
        let plugin = usable(credential.as_ref(), plugin);
        let step = login.switch(plugin, out);
        Ok((login, step))
    }

    /// The connection is encrypted from here on.
    pub(crate) fn tls_started(&mut self) {
        self.encrypted = true;
    }

    /// The next payload of the client.
    pub(crate) fn feed(
        &mut self,
        payload: &[u8],
        authenticator: &dyn Authenticator,
        out: &mut PacketWriter,
    ) -> Step {
        match self.state {
            State::AwaitResponse => self.response(payload, authenticator, out),
            State::Switched(plugin) => self.check(plugin, payload, authenticator, out),
            State::FullAuth => self.full_auth(payload, authenticator, out),
        }
    }

    fn response(
        &mut self,
        payload: &[u8],
        authenticator: &dyn Authenticator,
        out: &mut PacketWriter,
    ) -> Step {
        let identity = match Response::parse(payload, self.offered) {
            Ok(Response::Tls) if !self.encrypted => return Step::StartTls,
            Ok(Response::Login(identity)) => identity,
            Ok(Response::TooOld) => {
                let text = "Client does not support authentication protocol requested by server; \
                            consider upgrading MySQL client";
                return Step::Refused(MysqlError::new(1251, "08004", text));
            }
            Ok(Response::Tls) | Err(_) => return Step::Refused(MysqlError::bad_handshake()),
        };
        let response = identity.response.clone();
        let named = identity.plugin.as_deref().map(AuthPlugin::from_name);
        self.identity = Some(identity);
        let credential = self.account(authenticator).map(|account| account.credential);
        let wanted = match named {
            None => usable(credential.as_ref(), AuthPlugin::Native),
            Some(named) => usable(credential.as_ref(), named.unwrap_or(AuthPlugin::CachingSha2)),
        };
        let used = named.unwrap_or(Some(AuthPlugin::Native));
        // A client that does not have the announced plugin may leave the response out and name its own one.
        let unanswered =
            response.is_empty() && wanted != self.announced && !matches!(credential, Some(Credential::Empty));
        if used == Some(wanted) && !unanswered {
            return self.check(wanted, &response, authenticator, out);
        }
        self.switch(wanted, out)
    }

    fn switch(&mut self, plugin: AuthPlugin, out: &mut PacketWriter) -> Step {
        match auth::new_salt() {
            Ok(salt) => self.salt = salt,
            Err(_) => return Step::Refused(MysqlError::internal("no random numbers")),
        }
        write_auth_switch(out, plugin, &self.salt);
        self.state = State::Switched(plugin);
        Step::Continue
    }

    fn check(
        &mut self,
        plugin: AuthPlugin,
        response: &[u8],
        authenticator: &dyn Authenticator,
        out: &mut PacketWriter,
    ) -> Step {
        // A client says "no password" with nothing, or with the end of an empty string.
        let response = if response == [0] { &[][..] } else { response };
        self.gave_password = !response.is_empty();
        let Some(account) = self.account(authenticator) else { return self.deny() };
        let user = self.user();
        match (&account.credential, plugin) {
            (Credential::Empty, _) if response.is_empty() => self.done(account.admin),
            (Credential::Empty, _) => self.deny(),
            _ if response.is_empty() => self.deny(),
            (Credential::Digests { native: Some(digest), .. }, AuthPlugin::Native) => {
                if auth::native_matches(response, &self.salt, digest) {
                    self.done(account.admin)
                } else {
                    self.deny()
                }
            }
            (Credential::Digests { sha2: Some(digest), .. }, AuthPlugin::CachingSha2) => {
                if !auth::sha2_matches(response, &self.salt, digest) {
                    return self.deny();
                }
                out.packet(&[1, 3]);
                self.done(account.admin)
            }
            (credential @ Credential::Salted(_), AuthPlugin::CachingSha2) => {
                if let Some(digest) = authenticator.remembered(&user, credential)
                    && auth::sha2_matches(response, &self.salt, &digest)
                {
                    out.packet(&[1, 3]);
                    return self.done(account.admin);
                }
                out.packet(&[1, 4]);
                self.state = State::FullAuth;
                Step::Continue
            }
            (Credential::Digests { .. } | Credential::Salted(_), _) => self.deny(),
        }
    }

    fn full_auth(
        &mut self,
        payload: &[u8],
        authenticator: &dyn Authenticator,
        out: &mut PacketWriter,
    ) -> Step {
        if self.encrypted {
            return self.password(payload, authenticator);
        }
        let Some(key) = authenticator.rsa_key() else { return self.deny() };
        if payload == [2] {
            let Ok(pem) = key.to_public_key().to_public_key_pem(LineEnding::LF) else { return self.deny() };
            let begun = out.begin();
            out.payload().push(1);
            out.payload().extend_from_slice(pem.as_bytes());
            out.end(begun);
            return Step::Continue;
        }
        let Ok(mut password) = key.decrypt(Oaep::new::<Sha1>(), payload) else { return self.deny() };
        for (byte, mask) in password.iter_mut().zip(self.salt.iter().cycle()) {
            *byte ^= mask;
        }
        self.password(&password, authenticator)
    }

    fn password(&mut self, password: &[u8], authenticator: &dyn Authenticator) -> Step {
        let password = password.strip_suffix(&[0]).unwrap_or(password);
        let Some(account) = self.account(authenticator) else { return self.deny() };
        if !account.credential.matches_password(password) {
            return self.deny();
        }
        authenticator.remember(&self.user(), &account.credential, auth::sha2_digest(password));
        self.done(account.admin)
    }

    fn account(&self, authenticator: &dyn Authenticator) -> Option<Account> {
        authenticator.account(&self.user(), &self.host)
    }

    fn user(&self) -> String {
        self.identity.as_ref().map_or_else(String::new, |who| String::from_utf8_lossy(&who.user).into_owned())
    }

    fn deny(&self) -> Step {
        let (user, host) = (self.user(), &self.host);
        let given = if self.gave_password { "YES" } else { "NO" };
        let text = format!("Access denied for user '{user}'@'{host}' (using password: {given})");
        Step::Refused(MysqlError::new(1045, "28000", text))
    }

    fn done(&mut self, admin: bool) -> Step {
        let user = self.user();
        let Some(identity) = self.identity.take() else { return Step::Refused(MysqlError::bad_handshake()) };
        Step::Done(Box::new(LoggedIn {
            capabilities: identity.capabilities,
            collation: identity.collation,
            user,
            database: identity.database.map(|name| String::from_utf8_lossy(&name).into_owned()),
            attributes: identity.attributes,
            admin,
        }))
    }
}

/// The client's plugin if the account can use it, the other one if not. An unknown account can use any.
fn usable(credential: Option<&Credential>, plugin: AuthPlugin) -> AuthPlugin {
    let Some(credential) = credential else { return plugin };
    let other = match plugin {
        AuthPlugin::Native => AuthPlugin::CachingSha2,
        AuthPlugin::CachingSha2 => AuthPlugin::Native,
    };
    if credential.supports(plugin) { plugin } else { other }
}
