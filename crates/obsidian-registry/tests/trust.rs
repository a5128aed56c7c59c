//! Who may vouch for a module, and every way in which one is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use obsidian_registry::{
    Artifact, Digest, Envelope, Ledger, Manifest, PolicyError, Refusal, SigningKey, Statement, TrustPolicy, Verified,
};
use semver::Version;
use time::{Duration, OffsetDateTime};

const CODE: &[u8] = b"\0asm and so on";

/// Three holders of keys, of whom two must agree.
struct Site {
    keys: Vec<SigningKey>,
    now: OffsetDateTime,
}

impl Site {
    fn new() -> Self {
        let keys = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
        Self { keys, now: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() }
    }

    fn policy(&self, more: &str) -> TrustPolicy {
        self.policy_with(more, "")
    }

    /// `third` goes into the third key's section.
    fn policy_with(&self, more: &str, third: &str) -> TrustPolicy {
        let mut text = "threshold = 2\n".to_owned();
        for (number, key) in self.keys.iter().enumerate() {
            text.push_str(&format!("[[key]]\nname = \"holder {number}\"\npublic = \"{}\"\n", key.public()));
        }
        TrustPolicy::parse(&format!("{text}{third}\n{more}")).unwrap()
    }

    fn statement(&self, version: &str) -> Statement {
        let manifest = Manifest::parse(&format!("name = \"resize\"\nversion = \"{version}\"\n")).unwrap();
        Statement::about(CODE, &manifest, self.now)
    }

    fn signed(&self, statement: &Statement, holders: &[usize]) -> Envelope {
        let mut envelope = Envelope::sign(statement, &self.keys[holders[0]]).unwrap();
        holders[1..].iter().for_each(|&holder| envelope.add(&self.keys[holder]));
        envelope
    }

    fn judge(&self, envelope: &Envelope, policy: &TrustPolicy) -> Result<Verified<Artifact>, Refusal> {
        self.judge_after(envelope, policy, &Ledger::default(), CODE)
    }

    fn judge_after(
        &self,
        envelope: &Envelope,
        policy: &TrustPolicy,
        ledger: &Ledger,
        code: &[u8],
    ) -> Result<Verified<Artifact>, Refusal> {
        Verified::signed(code.to_vec(), envelope, policy, ledger, self.now).map(|(verified, _)| verified)
    }
}

fn reason(result: Result<Verified<Artifact>, Refusal>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn two_of_three_holders_are_enough_and_one_is_not() {
    let site = Site::new();
    let statement = site.statement("1.0.0");
    let policy = site.policy("");
    let verified = site.judge(&site.signed(&statement, &[0, 2]), &policy).unwrap();
    assert_eq!((verified.name.as_str(), verified.version.as_str()), ("resize", "1.0.0"));
    assert_eq!(verified.digest(), Digest::of(CODE));
    let alone = reason(site.judge(&site.signed(&statement, &[1]), &policy));
    assert!(alone.starts_with("1 of the 2 signatures needed"), "{alone}");
}

#[test]
fn one_holder_does_not_count_twice() {
    let site = Site::new();
    let text = site.signed(&site.statement("1.0.0"), &[1]).to_json();
    let mut spelled: serde_json::Value = serde_json::from_str(&text).unwrap();
    let own = spelled["signatures"][0].clone();
    spelled["signatures"].as_array_mut().unwrap().push(own);
    let twice = Envelope::parse(spelled.to_string().as_bytes()).unwrap();
    assert!(matches!(site.judge(&twice, &site.policy("")), Err(Refusal::Signatures { valid: 1, .. })));
}

#[test]
fn strangers_and_borrowed_signatures_do_not_count() {
    let site = Site::new();
    let mut envelope = site.signed(&site.statement("1.0.0"), &[0]);
    envelope.add(&SigningKey::generate().unwrap());
    let stranger = reason(site.judge(&envelope, &site.policy("")));
    assert!(stranger.contains("is not in the trust policy"), "{stranger}");

    // A signature over another document, under a trusted key's id.
    let other = site.signed(&site.statement("1.0.1"), &[1]);
    let mut spelled: serde_json::Value =
        serde_json::from_str(&site.signed(&site.statement("1.0.0"), &[0]).to_json()).unwrap();
    let other: serde_json::Value = serde_json::from_str(&other.to_json()).unwrap();
    spelled["signatures"].as_array_mut().unwrap().push(other["signatures"][0].clone());
    let borrowed = reason(site.judge(&Envelope::parse(spelled.to_string().as_bytes()).unwrap(), &site.policy("")));
    assert!(borrowed.contains("not over this document"), "{borrowed}");
}

#[test]
fn a_changed_module_is_refused() {
    let site = Site::new();
    let envelope = site.signed(&site.statement("1.0.0"), &[0, 1]);
    let changed = site.judge_after(&envelope, &site.policy(""), &Ledger::default(), b"\0asm and others");
    assert!(matches!(changed, Err(Refusal::Tampered { .. })));
}

#[test]
fn statements_and_keys_have_their_time() {
    let site = Site::new();
    let mut statement = site.statement("1.0.0");
    statement.expires = Some(site.now);
    let expired = reason(site.judge(&site.signed(&statement, &[0, 1]), &site.policy("")));
    assert!(expired.contains("counted until 2027-01-15T08:00:00Z"), "{expired}");
    statement.expires = Some(site.now + Duration::seconds(1));
    let envelope = site.signed(&statement, &[0, 2]);
    assert!(site.judge(&envelope, &site.policy("")).is_ok());

    // Rotation: an old key stops counting, a new one has not begun.
    let retired = reason(site.judge(&envelope, &site.policy_with("", "not_after = \"2026-01-01T00:00:00Z\"")));
    assert!(retired.contains("`holder 2` counted until 2026-01-01"), "{retired}");
    let early = reason(site.judge(&envelope, &site.policy_with("", "not_before = \"2030-01-01T00:00:00Z\"")));
    assert!(early.contains("`holder 2` counts from 2030-01-01"), "{early}");
}

#[test]
fn revoked_keys_and_modules_are_refused() {
    let site = Site::new();
    let envelope = site.signed(&site.statement("1.0.0"), &[0, 1]);
    let key = site.policy(&format!("[revoked]\nkeys = [\"{}\"]", site.keys[1].public().id()));
    let revoked = reason(site.judge(&envelope, &key));
    assert!(revoked.contains("`holder 1` was revoked"), "{revoked}");
    let module = site.policy(&format!("[revoked]\nmodules = [\"{}\"]", Digest::of(CODE)));
    assert!(matches!(site.judge(&envelope, &module), Err(Refusal::Revoked(_))));
    let release = site.policy("[revoked]\nreleases = [\"resize@1.0.0\", \"other@1.0.1\"]");
    assert_eq!(reason(site.judge(&envelope, &release)), "the release resize 1.0.0 was revoked by the trust policy");
    assert!(site.judge(&site.signed(&site.statement("1.0.1"), &[0, 1]), &release).is_ok());
    // Permission to step back does not bring a revoked release back.
    let ledger = Ledger::default().allow_older();
    assert!(matches!(site.judge_after(&envelope, &release, &ledger, CODE), Err(Refusal::RevokedRelease { .. })));
}

#[test]
fn the_bill_of_materials_is_the_one_that_was_signed() {
    let site = Site::new();
    let mut statement = site.statement("1.0.0");
    assert!(matches!(statement.check_sbom(b"{}"), Err(Refusal::Sbom { signed: None, .. })));
    statement.sbom = Some(Digest::of(b"{}"));
    assert!(statement.check_sbom(b"{}").is_ok());
    assert!(matches!(statement.check_sbom(b"[]"), Err(Refusal::Sbom { .. })));
}

#[test]
fn envelopes_from_before_there_were_limits_still_count_and_absurd_limits_do_not() {
    let site = Site::new();
    let mut old = serde_json::to_value(site.statement("1.0.0")).unwrap();
    old.as_object_mut().unwrap().remove("limits").unwrap();
    let statement: Statement = serde_json::from_value(old).unwrap();
    assert_eq!(statement.limits, obsidian_types::FunctionLimits::default());
    let mut absurd = site.statement("1.0.0");
    absurd.limits.memory_bytes = u64::MAX;
    let refused = reason(site.judge(&site.signed(&absurd, &[0, 1]), &site.policy("")));
    assert!(refused.contains("memory_bytes"), "{refused}");
}

#[test]
fn no_step_back_unless_told() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accepted.json");
    let mut ledger = Ledger::open(&path).unwrap();
    ledger.accept(&path, "resize", &Version::new(1, 1, 0), Digest::of(b"newer")).unwrap();
    let envelope = site.signed(&site.statement("1.0.0"), &[0, 1]);
    let older = reason(site.judge_after(&envelope, &site.policy(""), &ledger, CODE));
    assert!(older.contains("1.0.0 is older than 1.1.0"), "{older}");
    assert!(site.judge_after(&envelope, &site.policy(""), &ledger.allow_older(), CODE).is_ok());
}

#[test]
fn a_policy_that_lets_everything_or_nothing_through_is_refused() {
    let key = SigningKey::generate().unwrap().public();
    let section = format!("[[key]]\nname = \"a\"\npublic = \"{key}\"\n");
    for threshold in [0, 2] {
        let policy = TrustPolicy::parse(&format!("threshold = {threshold}\n{section}"));
        assert!(matches!(policy, Err(PolicyError::Threshold { keys: 1, .. })));
    }
    let twice = TrustPolicy::parse(&format!("threshold = 2\n{section}{section}"));
    assert_eq!(twice.unwrap_err(), PolicyError::Twice("a".to_owned()));
    assert!(matches!(TrustPolicy::parse("threshold = 1\nkeys = []"), Err(PolicyError::Form(_))));
    let release = TrustPolicy::parse(&format!("threshold = 1\n{section}[revoked]\nreleases = [\"a\"]"));
    assert!(release.unwrap_err().to_string().contains("write NAME@VERSION"));
}
