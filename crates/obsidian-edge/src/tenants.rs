//! Who asks: API keys, tenants, and the keys and conversation names derived for them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use obsidian_types::{ConversationId, Message, PromptText, Role, TenantId};
use obsidian_wire::prefix::SALT_BYTES;
use sha2::Sha256;

use crate::keys::{KeyTable, TenantLimits};

/// The POP's persistent secret, from which each tenant's key is derived. The binary makes it once and
/// keeps it in a file with mode 0600: with another secret, placeholders of running conversations change.
#[derive(Clone)]
pub struct TenantSecret([u8; 32]);

impl TenantSecret {
    /// Wraps 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TenantSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TenantSecret(..)")
    }
}

/// The tenant of requests on a POP without keys.
const DEFAULT_TENANT: &str = "default";

/// All tenants of this POP.
#[derive(Debug)]
pub(crate) struct Tenants {
    keys: RwLock<Arc<KeyTable>>,
    secret: TenantSecret,
}

/// Who asks, and what they may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) limits: TenantLimits,
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// No key was sent.
    NoKey,
    /// No tenant has this key.
    WrongKey,
    /// The tenant's time is over.
    Expired,
}

impl Tenants {
    pub(crate) fn new(keys: KeyTable, secret: TenantSecret) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), secret }
    }

    /// Other keys from now on.
    pub(crate) fn reload(&self, keys: KeyTable) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<KeyTable> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any caller is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.keys().is_empty()
    }

    /// Who a bearer token belongs to at `now`, Unix time in seconds.
    pub(crate) fn authenticate(&self, bearer: Option<&str>, now: u64) -> Result<Caller, Unknown> {
        let keys = self.keys();
        if keys.is_empty() {
            return Ok(Caller { tenant: TenantId::new(DEFAULT_TENANT), limits: TenantLimits::default() });
        }
        let tenant = keys.tenant_of(bearer.ok_or(Unknown::NoKey)?).ok_or(Unknown::WrongKey)?;
        let limits = keys.limits(tenant);
        if limits.expires.is_some_and(|expires| now >= expires) {
            return Err(Unknown::Expired);
        }
        Ok(Caller { tenant: tenant.clone(), limits })
    }

    /// The key under which this tenant's placeholders are made.
    pub(crate) fn tenant_key(&self, tenant: &TenantId) -> [u8; 32] {
        self.derive(b"obsidian tenant key 1", &[tenant.as_str().as_bytes()])
    }

    /// Keeps the prefixes this tenant's prompts leave at the hub apart from all others'.
    pub(crate) fn prefix_salt(&self, tenant: &TenantId) -> [u8; SALT_BYTES] {
        let digest = self.derive(b"obsidian prefix salt 1", &[tenant.as_str().as_bytes()]);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&digest[..SALT_BYTES]);
        salt
    }

    /// What a conversation is called: as the client names it, else after its opening.
    ///
    /// Both are HMACs, so that the name a client chose (which may hold personal data) stays here. The
    /// opening is every message up to and including the first user turn: it is resent unchanged each turn.
    pub(crate) fn conversation(
        &self,
        tenant: &TenantId,
        named: Option<&PromptText>,
        messages: &[Message],
    ) -> ConversationId {
        let mut parts: Vec<&[u8]> = vec![tenant.as_str().as_bytes()];
        let label: &[u8] = match named {
            Some(name) => {
                parts.push(name.expose().as_bytes());
                b"obsidian conversation by name 1"
            }
            None => {
                let first_user = messages.iter().position(|message| message.role == Role::User);
                let opening = first_user.map_or(messages.len(), |index| index + 1);
                for message in &messages[..opening] {
                    parts.push(message.role.as_str().as_bytes());
                    parts.push(message.content.expose().as_bytes());
                }
                b"obsidian conversation by opening 1"
            }
        };
        let digest = self.derive(label, &parts);
        ConversationId::new(hexadecimal(&digest[..16]))
    }

    fn derive(&self, label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        // A key shorter than SHA-256's block is padded with zeros (RFC 2104), so this is the same HMAC.
        let mut block = [0u8; 64];
        block[..32].copy_from_slice(&self.secret.0);
        let mut hmac = Hmac::<Sha256>::new(&block.into());
        hmac.update(label);
        for part in parts {
            // Lengths make the encoding injective: no two lists of parts give the same bytes.
            hmac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hmac.update(part);
        }
        hmac.finalize().into_bytes().into()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use obsidian_types::{Message, Role, TenantId};

    use super::{Caller, TenantSecret, Tenants, Unknown};
    use crate::keys::{ApiKey, TenantLimits};

    fn tenants(keys: Vec<ApiKey>) -> Tenants {
        Tenants::new(keys.into(), TenantSecret::new([7; 32]))
    }

    fn message(role: Role, text: &str) -> Message {
        Message::new(role, text)
    }

    #[test]
    fn each_key_leads_to_its_tenant() {
        let caller = |name: &str| Ok(Caller { tenant: TenantId::new(name), limits: TenantLimits::default() });
        let open = tenants(vec![]);
        assert_eq!(open.authenticate(None, 0), caller("default"));
        let closed = tenants(vec![
            ApiKey::from_secret(TenantId::new("a"), "key-a"),
            ApiKey::from_secret(TenantId::new("b"), "key-b"),
        ]);
        assert_eq!(closed.authenticate(Some("key-a"), 0), caller("a"));
        assert_eq!(closed.authenticate(Some("key-b"), 0), caller("b"));
        assert_eq!(closed.authenticate(Some("key-c"), 0), Err(Unknown::WrongKey));
        assert_eq!(closed.authenticate(Some(""), 0), Err(Unknown::WrongKey));
        assert_eq!(closed.authenticate(None, 0), Err(Unknown::NoKey));
        let mut keys = (*closed.keys()).clone();
        keys.limit(TenantId::new("a"), TenantLimits { expires: Some(100), ..TenantLimits::default() });
        closed.reload(keys);
        assert_eq!(closed.authenticate(Some("key-a"), 99).map(|caller| caller.tenant), Ok(TenantId::new("a")));
        assert_eq!(closed.authenticate(Some("key-a"), 100), Err(Unknown::Expired));
        assert_eq!(closed.authenticate(Some("key-b"), 100), caller("b"));
    }

    #[test]
    fn a_conversation_keeps_its_name_over_the_turns() {
        let tenants = tenants(vec![]);
        let tenant = TenantId::new("a");
        let mut history = vec![message(Role::System, "be brief"), message(Role::User, "hello")];
        let first = tenants.conversation(&tenant, None, &history);
        history.push(message(Role::Assistant, "hi"));
        history.push(message(Role::User, "more"));
        assert_eq!(tenants.conversation(&tenant, None, &history), first);
        // Another opening, tenant, or a name given: another conversation.
        history[1] = message(Role::User, "Hello");
        assert_ne!(tenants.conversation(&tenant, None, &history), first);
        history[1] = message(Role::User, "hello");
        let other = TenantId::new("b");
        assert_ne!(tenants.conversation(&other, None, &history), first);
        let name = "alice@example.com".into();
        let named = tenants.conversation(&tenant, Some(&name), &history);
        assert_ne!(named, first);
        assert!(!named.as_str().contains("alice"));
    }

    #[test]
    fn the_encoding_of_an_opening_is_injective() {
        let tenants = tenants(vec![]);
        let tenant = TenantId::new("a");
        let one = [message(Role::System, "ab"), message(Role::User, "c")];
        let two = [message(Role::System, "a"), message(Role::User, "bc")];
        assert_ne!(tenants.conversation(&tenant, None, &one), tenants.conversation(&tenant, None, &two));
    }

    #[test]
    fn tenants_have_keys_of_their_own() {
        let tenants = tenants(vec![]);
        assert_ne!(tenants.tenant_key(&TenantId::new("a")), tenants.tenant_key(&TenantId::new("b")));
        assert_eq!(format!("{:?}", tenants.secret), "TenantSecret(..)");
    }
}
