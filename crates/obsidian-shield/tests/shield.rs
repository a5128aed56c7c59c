//! The shield from outside: masking, sealing and restoring hold for any text, however hostile.

use obsidian_shield::{
    Kind, MAX_PLACEHOLDER_BYTES, MaskError, Masked, Prompt, Replacement, Restorer, SealError, ShieldKey, Vault, detect,
    mask,
};
use obsidian_types::{Message, Role, Tool, ToolCall, ToolChoice, limits};
use proptest::prelude::*;

fn key() -> ShieldKey {
    ShieldKey::derive(&[42; 32], "conversation")
}

fn fields(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn prompt(contents: &[String]) -> Prompt {
    let messages = contents.iter().map(|content| Message::new(Role::User, content.as_str()));
    Prompt { messages: messages.collect(), ..Prompt::default() }
}

const DOCUMENT: &str = "\
Subject: Refund for order 2024-118832

Hi team, I am Alice (alice.meyer@example.com, cc Alice.Meyer@Example.com). Please call me on
+49 (0)30 123 4567 or 0171-1234567 after 10:30 on 2024-05-17.
Refund 1,249.00 EUR to DE89 3704 0044 0532 0130 00 or to card 4111 1111 1111 1111 (not 4111 1111 1111 1112).
The login came from 203.0.113.7 and 2001:db8::8a2e:370:7334; the client was version 1.2.3.4.
Config: {\"api_key\": \"9f8e7d6c5b4a3210ff\", \"url\": \"postgres://svc:s3cr3t@db.internal/prod\"}
Token ghp_16C7e42F292c6912E7710c838347Ae178B4a leaked. Earlier text said PII_EMAIL_7K3QX9, keep it.
Again: alice.meyer@example.com.
";

#[test]
fn a_realistic_document() {
    let masked = mask(&fields(&[DOCUMENT]), &key()).unwrap();
    insta::assert_snapshot!(masked.fields[0]);
    assert_eq!(masked.vault.restore(masked.fields[0].as_bytes()), DOCUMENT.as_bytes());
    masked.vault.seal(prompt(&masked.fields)).unwrap();
}

#[test]
fn placeholders_are_stable_and_unlinkable() {
    let first = mask(&fields(&["mail alice@example.com"]), &key()).unwrap();
    let later =
        mask(&fields(&["mail alice@example.com", "ok", "alice@example.com and bob@example.com"]), &key()).unwrap();
    assert_eq!(first.fields[0], later.fields[0]);
    assert!(later.fields[2].starts_with(&first.vault.replacements()[0].placeholder));
    let elsewhere = mask(&fields(&["mail alice@example.com"]), &ShieldKey::derive(&[43; 32], "conversation")).unwrap();
    let another = mask(&fields(&["mail alice@example.com"]), &ShieldKey::derive(&[42; 32], "another")).unwrap();
    assert_ne!(first.fields, elsewhere.fields);
    assert_ne!(first.fields, another.fields);
}

#[test]
fn spellings_have_placeholders_of_their_own() {
    let masked = mask(&fields(&["A@example.com a@example.com A@example.com"]), &key()).unwrap();
    assert_eq!(masked.vault.len(), 2);
    let words: Vec<&str> = masked.fields[0].split(' ').collect();
    assert_eq!(words[0], words[2]);
    assert_ne!(words[0], words[1]);
}

#[test]
fn a_value_found_once_is_masked_everywhere() {
    let masked = mask(
        &fields(&["order 5551234567", "Phone: 5551234567", "my pw: x", "password=swordfish", "a swordfish"]),
        &key(),
    )
    .unwrap();
    assert!(
        masked.fields.iter().all(|field| !field.contains("5551234567") && !field.contains("swordfish")),
        "{masked:?}"
    );
}

#[test]
fn text_that_looks_like_a_placeholder_comes_back() {
    let known = mask(&fields(&["alice@example.com"]), &key()).unwrap().vault.replacements()[0].placeholder.clone();
    let lowered = known.to_lowercase().replace('_', "\\_");
    for text in [
        format!("{known} alice@example.com"),
        format!("alice@example.com{known}"),
        format!("{lowered} {known} alice@example.com {known}"),
        format!("{}alice@example.com {}", &known[..15], &known[..15]),
        format!("{}-----BEGIN PRIVATE KEY-----", &known[..15]),
        format!("PII_EMAIL_{known}{known}"),
    ] {
        let masked = mask(std::slice::from_ref(&text), &key()).unwrap();
        assert_eq!(masked.vault.restore(masked.fields[0].as_bytes()), text.as_bytes(), "{text}");
        masked.vault.seal(prompt(&masked.fields)).unwrap();
    }
}

#[test]
fn altered_placeholders_are_restored_and_invented_ones_are_not() {
    let vault = mask(&fields(&["alice@example.com"]), &key()).unwrap().vault;
    let placeholder = vault.replacements()[0].placeholder.clone();
    let restored = |text: &str| String::from_utf8(vault.restore(text.as_bytes())).unwrap();
    for altered in [
        placeholder.to_lowercase(),
        placeholder.replace('_', "\\_"),
        placeholder.replace('_', "-"),
        format!("**{placeholder}**"),
    ] {
        assert!(restored(&altered).contains("alice@example.com"), "{altered}");
    }
    for (digits, is_restored) in [(1, true), (2, true), (3, false), (6, false)] {
        let miscopied = with_wrong_digits(&placeholder, digits);
        assert_eq!(restored(&miscopied).contains("alice@example.com"), is_restored, "{miscopied}");
        assert!(is_restored || restored(&miscopied) == miscopied);
    }
    // The right digits under another kind are another placeholder.
    let other_kind = placeholder.replace("EMAIL", "PHONE");
    assert_eq!(restored(&other_kind), other_kind);
    assert_eq!(restored("PII_EMAIL_ and PII"), "PII_EMAIL_ and PII");
}

/// The placeholder with its first `count` digits replaced by others.
fn with_wrong_digits(placeholder: &str, count: usize) -> String {
    let mut bytes = placeholder.as_bytes().to_vec();
    let start = bytes.len() - 6;
    for byte in &mut bytes[start..start + count] {
        *byte = if *byte == b'7' { b'8' } else { b'7' };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_miscopied_placeholder_near_two_values_stays_text() {
    let vault = mask(&fields(&["alice@example.com"]), &key()).unwrap().vault;
    let alice = &vault.replacements()[0].placeholder;
    // A neighbour as a hostile guest could pick it: three digits away, with a check digit that fits.
    let neighbour = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F"]
        .iter()
        .flat_map(|last| {
            ["X", "Y", "Z", "Q"].map(|fifth| format!("{}{fifth}{last}", &with_wrong_digits(alice, 1)[..14]))
        })
        .map(|placeholder| Replacement { placeholder, original: "bob@example.com".into() })
        .find(|replacement| Vault::from_parts(vec![replacement.clone()]).is_ok())
        .unwrap();
    let both = Vault::from_parts(vec![vault.replacements()[0].clone(), neighbour.clone()]).unwrap();
    let doubtful = with_wrong_digits(alice, 1);
    assert_eq!(both.restore(doubtful.as_bytes()), doubtful.as_bytes());
    assert_eq!(both.restore(alice.as_bytes()), b"alice@example.com");
    assert_eq!(both.restore(neighbour.placeholder.as_bytes()), b"bob@example.com");
}

#[test]
fn no_code_has_two_equal_neighbours() {
    let emails: Vec<String> = (0..500).map(|number| format!("user{number}@example.com")).collect();
    let vault = mask(&emails, &key()).unwrap().vault;
    assert_eq!(vault.len(), 500);
    for replacement in vault.replacements() {
        let code = &replacement.placeholder.as_bytes()[replacement.placeholder.len() - 6..];
        assert!(code.windows(2).all(|pair| pair[0] != pair[1]), "{}", replacement.placeholder);
    }
}

#[test]
fn a_guest_that_does_not_mask_is_caught() {
    let text = fields(&["hello", "write to alice@example.com"]);
    let refused = Vault::default().seal(prompt(&text)).unwrap_err();
    assert_eq!(refused, SealError::Unmasked { field: 1, kind: Kind::Email });
    let masked = mask(&fields(&["Phone: 5551234567"]), &key()).unwrap();
    let refused = masked.vault.seal(prompt(&fields(&["number 5551234567"]))).unwrap_err();
    assert_eq!(refused, SealError::OriginalSurvives { field: 0 });
    let mut with_stop = prompt(&masked.fields);
    with_stop.stop = vec!["x".into(), "bob@example.com".into()];
    assert_eq!(masked.vault.seal(with_stop).unwrap_err(), SealError::Unmasked { field: 2, kind: Kind::Email });
    let mut with_user = prompt(&masked.fields);
    with_user.user = Some("bob@example.com".into());
    assert_eq!(masked.vault.seal(with_user).unwrap_err(), SealError::Unmasked { field: 1, kind: Kind::Email });
}

#[test]
fn every_new_leaf_is_examined() {
    let message = |change: &dyn Fn(&mut Message)| {
        let mut message = Message::new(Role::Assistant, "x");
        change(&mut message);
        Prompt { messages: vec![message], ..Prompt::default() }
    };
    let call = |id: &str, name: &str, arguments: &str| {
        let call = ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() };
        message(&|message| message.tool_calls = vec![call.clone()])
    };
    let tool = |name: &str, description: Option<&str>, parameters: &str| {
        let description = description.map(Into::into);
        let tool = Tool { name: name.into(), description, parameters: parameters.into(), strict: None };
        Prompt { tools: vec![tool], ..Prompt::default() }
    };
    let mail = "bob@example.com";
    let unmasked = [
        message(&|message| message.name = Some(mail.into())),
        message(&|message| message.tool_call_id = Some(mail.into())),
        call(mail, "f", "{}"),
        call("1", mail, "{}"),
        call("1", "f", "{\"to\": \"bob@example.com\"}"),
        call("1", "f", "{\"to\": \"bob\\u0040example.com\"}"),
        call("1", "f", "{\"to\": \"bob@example.com"),
        call("1", "f", "{\"card\": 4111111111111111}"),
        tool(mail, None, "{}"),
        tool("f", Some(mail), "{}"),
        tool("f", None, "{\"bob@example.com\": 1}"),
        tool("f", None, "{\"password\": \"Tr0ub4dor&3\"}"),
        Prompt { tool_choice: ToolChoice::Function(mail.into()), ..Prompt::default() },
        Prompt { raw: Some(mail.into()), ..Prompt::default() },
    ];
    for prompt in unmasked {
        let fields = prompt.fields();
        assert!(matches!(Vault::default().seal(prompt.clone()), Err(SealError::Unmasked { .. })), "{fields:?}");
        let masked = mask(&fields, &key()).unwrap();
        let sealed = masked.vault.seal(prompt.clone().with_fields(masked.fields.clone()).unwrap());
        assert!(sealed.is_ok(), "{:?}: {:?}", masked.fields, sealed.unwrap_err());
    }
    // The text behind a line break is a value of its own.
    let masked = mask(&call("1", "f", r#"{"text":"see\nbob@example.com"}"#).fields(), &key()).unwrap();
    assert_eq!(masked.vault.replacements()[0].original.expose(), mail);
}

#[test]
fn originals_in_arguments_stay_inside_their_string() {
    let hostile = "hunter2\"}, \\ \u{1}{\"x\": \"é";
    let placeholder = mask(&fields(&["bob@example.com"]), &key()).unwrap().fields[0].clone();
    let replacement = Replacement { placeholder: placeholder.clone(), original: hostile.into() };
    let vault = Vault::from_parts(vec![replacement]).unwrap();
    let arguments = format!("{{\"p\":\"{placeholder}\"}}");
    for chunk in 1..arguments.len() {
        let mut restorer = Restorer::new(&vault.json_escaped());
        let mut restored: Vec<u8> = arguments.as_bytes().chunks(chunk).flat_map(|part| restorer.push(part)).collect();
        restored.extend(restorer.finish());
        let expected = r#"{"p":"hunter2\"}, \\ \u0001{\"x\": \"é"}"#;
        assert_eq!(String::from_utf8(restored).unwrap(), expected);
    }
}

#[test]
fn tokens_are_sealed_by_what_they_decode_to() {
    let masked = mask(&fields(&["password=hunter2 ", "Phone: 5551234567"]), &key()).unwrap();
    let sealed = masked.vault.seal(prompt(&masked.fields)).unwrap();
    let rendered =
        format!("<|user|>\n{}<|end|>\n<|user|>\n{}<|end|>\n<|assistant|>\n", masked.fields[0].trim(), masked.fields[1]);
    let tokens = sealed.tokens(vec![1, 2, 3], rendered.as_bytes(), &masked.vault).unwrap();
    assert_eq!(tokens.get().as_slice(), [1, 2, 3]);
    let leaked = sealed.tokens(vec![1], b"<|user|>\nhunter2<|end|>", &masked.vault);
    assert_eq!(leaked.unwrap_err(), SealError::OriginalSurvives { field: 0 });
    let unmasked = sealed.tokens(vec![1], b"<|user|>\nbob@example.com<|end|>", &masked.vault);
    assert_eq!(unmasked.unwrap_err(), SealError::Unmasked { field: 0, kind: Kind::Email });
    let broken = sealed.tokens(vec![1], b"\xFF\xFEbob@example.com", &masked.vault);
    assert_eq!(broken.unwrap_err(), SealError::Unmasked { field: 0, kind: Kind::Email });
}

#[test]
fn debug_and_errors_show_no_original() {
    let masked = mask(&fields(&["write to alice@example.com"]), &key()).unwrap();
    let sealed: Masked<Prompt> = masked.vault.seal(prompt(&masked.fields)).unwrap();
    let raw = prompt(&fields(&["write to alice@example.com"]));
    let restorer = Restorer::new(&masked.vault);
    let error = masked.vault.seal(raw.clone()).unwrap_err();
    let shown = format!("{masked:?} {sealed:?} {raw:?} {restorer:?} {:?} {error} {error:?}", masked.vault);
    assert!(!shown.contains("alice"), "{shown}");
    assert!(shown.contains("Vault(1 values)"), "{shown}");
}

#[test]
fn limits_are_kept() {
    let large = vec!["x".repeat(limits::MAX_PROMPT_BYTES / 2 + 1); 2];
    assert_eq!(mask(&large, &key()).unwrap_err(), MaskError::TooLarge { limit: limits::MAX_PROMPT_BYTES });
    let many: String = (0..=limits::MAX_VAULT_VALUES).map(|index| format!("user{index}@example.com ")).collect();
    assert_eq!(mask(&[many], &key()).unwrap_err(), MaskError::TooManyValues { limit: limits::MAX_VAULT_VALUES });
    let most: String = (0..limits::MAX_VAULT_VALUES).map(|index| format!("user{index}@example.com ")).collect();
    let masked = mask(std::slice::from_ref(&most), &key()).unwrap();
    assert_eq!(masked.vault.len(), limits::MAX_VAULT_VALUES as usize);
    assert_eq!(masked.vault.restore(masked.fields[0].as_bytes()), most.as_bytes());
}

#[test]
fn a_vault_refuses_forgeries() {
    let forged = Replacement { placeholder: "PII_EMAIL_000000".to_owned(), original: "x".into() };
    assert!(Vault::from_parts(vec![forged]).is_err());
}

/// Values, near values, separators, placeholders and their parts.
const HOSTILE_PIECES: [&str; 65] = [
    "alice@example.com",
    "@",
    "%40",
    ".com",
    "a@b.co",
    "4111 1111 1111 1111",
    "4111111111111111",
    "DE89370400440532013000",
    "192.168.0.1",
    ".1.2.3.4",
    "2001:db8::1",
    "::",
    ":",
    "+49 30 1234567",
    "0171-1234567",
    "tel ",
    "order ",
    "password=",
    "hunter2",
    "password is ",
    "token: ",
    "8f3a9c2b7d1e",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "-",
    "PII_EMAIL_",
    "PII_SECRET_7K3QX",
    "pii\\_ip\\_",
    "PII",
    "_",
    "\\",
    "P",
    "7K3QX9",
    "0",
    "00",
    "12",
    " ",
    "\n",
    ".",
    "/",
    "(",
    ")",
    "+",
    "=",
    "\"",
    "'",
    "\u{200b}",
    "\u{a0}",
    "４",
    "é",
    "입",
    "€",
    "e\u{301}",
    "eyJhbGciOi",
    ".",
    "sk-",
    "a1B2c3D4e5F6g7H8",
    "ghp_",
    "http://",
    "://u:p@",
    "x",
    "F",
    "user:",
    "AKIA",
    "Bearer ",
];

/// One piece of hostile text.
fn hostile_piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(&HOSTILE_PIECES[..]).prop_map(str::to_owned);
    let text = "alice@example.com 4111111111111111 DE89370400440532013000 192.168.0.1 +49 30 1234567 password=hunter2";
    let replacements =
        mask(&[text.to_owned()], &key()).map_or_else(|_| Vec::new(), |masked| masked.vault.replacements().to_vec());
    let known = (prop::sample::select(replacements), 0..4_usize).prop_map(|(replacement, cut)| {
        let placeholder = replacement.placeholder;
        placeholder[..placeholder.len() - cut].to_owned()
    });
    prop_oneof![6 => fixed, 1 => known, 1 => "\\PC{0,6}", 1 => "[0-9 .:/-]{1,20}"]
}

fn hostile_text() -> impl Strategy<Value = String> {
    prop::collection::vec(hostile_piece(), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// The body of a fuzz target: every promise at once, for any fields.
    #[test]
    fn every_promise_holds(texts in prop::collection::vec(hostile_text(), 1..4)) {
        let masked = mask(&texts, &key()).unwrap();
        for (text, field) in texts.iter().zip(&masked.fields) {
            prop_assert_eq!(&masked.vault.restore(field.as_bytes()), text.as_bytes());
        }
        prop_assert_eq!(Vault::from_parts(masked.vault.replacements().to_vec()), Ok(masked.vault.clone()));
        prop_assert_eq!(&mask(&texts, &key()).unwrap(), &masked);
        let sealed = masked.vault.seal(prompt(&masked.fields));
        prop_assert!(sealed.is_ok(), "{:?} for {:?} -> {:?}", sealed.err(), texts, masked.fields);
        for field in &masked.fields {
            let mut rest = field.clone();
            for replacement in masked.vault.replacements() {
                rest = rest.replace(&replacement.placeholder, "\u{1}");
            }
            for replacement in masked.vault.replacements() {
                prop_assert!(!rest.contains(replacement.original.expose()), "{:?} in {:?}", replacement.original.expose(), rest);
            }
        }
    }

    #[test]
    fn detection_is_well_formed(text in hostile_text()) {
        let mut last = 0;
        for found in detect(&text) {
            prop_assert!(found.range.start >= last && !text[found.range.clone()].is_empty());
            last = found.range.end;
        }
    }

    #[test]
    fn any_chunking_restores_the_same(texts in prop::collection::vec(hostile_text(), 1..3), answer in hostile_text(), cuts in prop::collection::vec(0..200_usize, 0..12)) {
        let masked = mask(&texts, &key()).unwrap();
        let mut stream = masked.fields.concat();
        stream.push_str(&answer);
        stream.push_str(&masked.fields.concat().to_lowercase());
        let whole = masked.vault.restore(stream.as_bytes());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.sort_unstable();
        let mut restorer = Restorer::new(&masked.vault);
        let mut restored = Vec::new();
        let mut position = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            restored.extend(restorer.push(&stream.as_bytes()[position..cut]));
            prop_assert!(restorer.held_bytes() < MAX_PLACEHOLDER_BYTES);
            position = cut;
        }
        restored.extend(restorer.finish());
        prop_assert_eq!(restored, whole);
    }
}

#[test]
fn every_split_point_restores_the_same() {
    let masked = mask(&fields(&[DOCUMENT]), &key()).unwrap();
    let mut stream = masked.fields[0].clone();
    stream.push_str(&masked.fields[0].to_lowercase().replace('_', "\\_"));
    let whole = masked.vault.restore(stream.as_bytes());
    for split in 0..=stream.len() {
        let mut restorer = Restorer::new(&masked.vault);
        let mut restored = restorer.push(&stream.as_bytes()[..split]);
        restored.extend(restorer.push(&stream.as_bytes()[split..]));
        restored.extend(restorer.finish());
        assert_eq!(restored, whole, "split at {split}");
    }
    let mut restorer = Restorer::new(&masked.vault);
    let mut bytewise: Vec<u8> = stream.bytes().flat_map(|byte| restorer.push(&[byte])).collect();
    bytewise.extend(restorer.finish());
    assert_eq!(bytewise, whole);
}
