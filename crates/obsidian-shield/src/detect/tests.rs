//! Tables per detector: what it must find, what it must leave alone.

use super::detect;
use crate::kind::Kind;

/// Each text must contain exactly one value, the part between the `⟦` and `⟧` marks, of this kind.
#[track_caller]
fn finds(kind: Kind, marked: &[&str]) {
    for case in marked {
        let start = case.find('⟦').unwrap();
        let end = case.find('⟧').unwrap() - '⟦'.len_utf8();
        let text = case.replace(['⟦', '⟧'], "");
        let found: Vec<(Kind, &str)> = detect(&text).into_iter().map(|each| (each.kind, &text[each.range])).collect();
        assert_eq!(found, [(kind, &text[start..end])], "in {text:?}");
    }
}

#[track_caller]
fn leaves_alone(texts: &[&str]) {
    for text in texts {
        let found: Vec<(Kind, &str)> = detect(text).into_iter().map(|each| (each.kind, &text[each.range])).collect();
        assert_eq!(found, [], "in {text:?}");
    }
}

#[test]
fn emails() {
    finds(
        Kind::Email,
        &[
            "⟦alice@example.com⟧",
            "Mail ⟦Alice.B+tag@mail.example.co.uk⟧, please.",
            "<⟦alice@example.com⟧>",
            "mailto:⟦alice@example.com⟧?subject=x",
            "**⟦alice@example.com⟧**",
            "'⟦o'brien@example.org⟧'",
            "email=⟦alice_99@example.com⟧&x=1",
            "https://x.test/?q=⟦alice%40example.com⟧&y",
            "⟦jörg@müller.de⟧",
            "⟦用户@例子.广告⟧",
            "⟦ａｌｉｃｅ＠ｅｘａｍｐｌｅ．ｃｏｍ⟧",
            "⟦ali\u{200b}ce@exam\u{ad}ple.com⟧",
            "⟦\"john doe\"@example.com⟧",
            "⟦root@[192.168.0.1]⟧",
            "⟦a@xn--mller-kva.xn--p1ai⟧ ok",
            "write to ⟦alice@example.com⟧.",
            "⟦alice@example.com⟧입니다",
            "git clone ⟦git@github.com⟧:org/repo",
        ],
    );
    leaves_alone(&[
        "@alice",
        "alice@",
        "alice@localhost",
        "a @ b.com",
        "react@18.2.0",
        "meet @ 10.30",
        "user@-.com",
        "x@.com",
        "@property\ndef f(): pass",
        "a@b.c",
    ]);
}

#[test]
fn phones() {
    finds(
        Kind::Phone,
        &[
            "⟦+49 30 1234567⟧",
            "⟦+49 (0)30 123456⟧",
            "⟦+14155550123⟧",
            "⟦+1 (415) 555-0123⟧",
            "⟦+1-415-555-0123⟧ x12",
            "tel:⟦+44-20-7946-0958⟧",
            "⟦+33 6 12 34 56 78⟧",
            "⟦(+49) 30 123456⟧",
            "⟦0049 30 1234567⟧",
            "⟦(415) 555-0123⟧",
            "⟦415-555-0123⟧",
            "⟦415.555.0123⟧",
            "⟦1-800-555-0199⟧",
            "⟦020 7946 0958⟧",
            "⟦030 1234567⟧",
            "⟦030/1234567⟧",
            "⟦0171-1234567⟧",
            "⟦06 12 34 56 78⟧",
            "⟦01.23.45.67.89⟧",
            "⟦044 668 18 00⟧",
            "⟦03-1234-5678⟧",
            "⟦07911123456⟧",
            "⟦0612345678⟧ is mine",
            "⟦085612345678⟧ is mine",
            "⟦09012345678⟧ too",
            "⟦8 (495) 123-45-67⟧",
            "⟦8-800-555-35-35⟧",
            "⟦138 1234 5678⟧",
            "⟦612 34 56 78⟧",
            "⟦(11) 91234-5678⟧",
            "Phone: ⟦4155550123⟧",
            "call ⟦555-1234⟧ now",
            "phone_number: \"⟦5551234567⟧\"",
            "手机 ⟦13812345678⟧",
            "Tel. ⟦０３０\u{a0}１２３４５６７⟧",
            "Tel: ⟦030 123\u{200b}4567⟧",
            "⟦+49\u{a0}30\u{2011}1234567⟧",
            "order 12345, phone ⟦6123 4567⟧",
        ],
    );
}

#[test]
fn numbers_that_are_no_phones() {
    leaves_alone(&[
        "Order number 4155550123",
        "order #0612345678",
        "invoice 030 1234567",
        "2024-01-15 10:30:00",
        "15.01.2024",
        "01/02/2024",
        "call me on 2024-01-15",
        "01/2024 12345",
        "1,234,567.89 EUR",
        "$1234567890",
        "0.1234567890",
        "1700000000",
        "ISBN 978-3-16-148410-0",
        "0-306-40615-2",
        "123-45-6789",
        "version 1.2.3",
        "1 234 567 890 people",
        "C++ 12345678901",
        "x = 3 + 12345678",
        "+5 points, +12.5 %",
        "3.14159265358979",
        "52.520008, 13.404954",
        "550e8400-e29b-41d4-a716-446655440000",
        "sku 030-123-4567",
        "10-20-30-40-50-60-70",
        "8 of 12, 16 of 24",
        "01 02 03 04 05 06 07",
        "Room 101, floor 12, building 1234567",
        "id_0612345678",
        "deadbeef0612345678",
    ]);
}

#[test]
fn cards() {
    finds(
        Kind::Card,
        &[
            "⟦4111111111111111⟧",
            "⟦4111 1111 1111 1111⟧",
            "⟦4111-1111-1111-1111⟧.",
            "⟦4111.1111.1111.1111⟧",
            "card ⟦3782 822463 10005⟧, thanks",
            "⟦378282246310005⟧",
            "⟦5555555555554444⟧",
            "⟦2223003122003222⟧",
            "⟦6011 1111 1111 1117⟧",
            "⟦3530111333300000⟧",
            "⟦30569309025904⟧",
            "⟦6250941006528599⟧",
            "Visa⟦4111111111111111⟧",
            "card=⟦4111111111111111⟧;",
            "⟦４１１１　１１１１　１１１１　１１１１⟧",
            "⟦4111\u{a0}1111\u{a0}1111\u{a0}1111⟧",
            "⟦4111\u{200b}111111111111⟧",
            "⟦4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1⟧",
            "visa ⟦4222222222222⟧",
            "2 ⟦4111 1111 1111 1111⟧",
            "⟦4111111111111111⟧です",
        ],
    );
    leaves_alone(&[
        "4111111111111112",
        "1234567890123456",
        "0000 0000 0000 0000",
        "order 9999999999999995",
        "4222222222222",
        "0.4111111111111111",
        "a4111111111111111f",
        "41111111111111111111",
        "1700000000000",
        "4111 11 1111111111",
    ]);
}

#[test]
fn ibans() {
    finds(
        Kind::Iban,
        &[
            "⟦DE89370400440532013000⟧",
            "IBAN: ⟦DE89 3704 0044 0532 0130 00⟧",
            "⟦de89 3704 0044 0532 0130 00⟧",
            "⟦GB29 NWBK 6016 1331 9268 19⟧.",
            "⟦FR14 2004 1010 0505 0001 3M02 606⟧",
            "⟦NO93 8601 1117 947⟧",
            "⟦CH93-0076-2011-6238-5295-7⟧",
            "IBAN⟦NL91ABNA0417164300⟧",
            "⟦ＤＥ８９３７０４００４４０５３２０１３０００⟧",
            "⟦DE89\u{a0}3704\u{a0}0044\u{a0}0532\u{a0}0130\u{a0}00⟧",
            "⟦MT84 MALT 0110 0001 2345 MTLC AST0 01S⟧",
        ],
    );
    leaves_alone(&[
        "DE88370400440532013000",
        "DE8937040044053201300",
        "ZZ89370400440532013000",
        "DE89370400440532013000A",
        "XDE89370400440532013000",
        "IT60 and then some words",
    ]);
}

#[test]
fn addresses() {
    finds(
        Kind::Ip,
        &[
            "⟦192.168.1.17⟧",
            "ping ⟦8.8.8.8⟧.",
            "http://⟦10.0.0.1⟧:8080/x",
            "⟦10.0.0.0⟧/8",
            "root@⟦10.0.0.1⟧",
            "[⟦2001:db8::1⟧]:443",
            "⟦2001:0db8:85a3:0000:0000:8a2e:0370:7334⟧",
            "⟦2001:DB8::8A2E:370:7334⟧",
            "⟦fe80::1%eth0⟧",
            "⟦::ffff:192.0.2.128⟧",
            "⟦2001:db8::⟧ prefix",
            "⟦64:ff9b::192.0.2.33⟧",
            "addr:⟦2001:db8::5⟧,",
            "IPv6:⟦2001:db8::5⟧",
            "the host ⟦fe80::dead:beef⟧: down",
            "⟦１９２．１６８．１．１７⟧",
            "⟦1::2⟧",
        ],
    );
    leaves_alone(&[
        "1.2.3",
        "version 1.2.3.4",
        "v1.2.3.4",
        "Chrome/120.0.6099.109 and Chrome/120.0.0.0",
        "section 1.2.3.4",
        "256.1.1.1",
        "1.2.3.4.5",
        "1.3.6.1.4.1.311",
        "999.999.999.999",
        "12:30:45",
        "00:1a:2b:3c:4d:5e",
        "std::vec::Vec",
        "a::b",
        "::1 and ::",
        "SHA256:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd",
        "key: value",
        "https://example.com",
        "10.5",
    ]);
}

#[test]
fn key_formats() {
    finds(
        Kind::Secret,
        &[
            "⟦sk-proj-a1B2c3D4e5F6g7H8i9J0⟧",
            "export KEY; ⟦sk-ant-api03-Zx9_Yw8-Vu7Ts6Rq5Po4⟧",
            "⟦ghp_16C7e42F292c6912E7710c838347Ae178B4a⟧",
            "⟦github_pat_11ABCDEFG0123456789_abcdef⟧",
            "⟦AKIAIOSFODNN7EXAMPLE⟧",
            "key-⟦AKIAIOSFODNN7EXAMPLE⟧",
            "⟦xoxb-123456789012-abcdefABCDEF⟧",
            "⟦AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY⟧",
            "⟦sk_live_4eC39HqLyjWDarjtT1zdp7dc⟧",
            "⟦hf_aB3dE5gH7jK9mN1pQ3sT5vW7⟧",
            "⟦glpat-x1Y2z3A4b5C6d7E8f9G0⟧",
            "⟦eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U⟧",
            "Authorization: Bearer ⟦mF_9.B5f-4.1JqM-abc⟧",
            "bot ⟦110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1⟧",
            "⟦-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/+=\n-----END RSA PRIVATE KEY-----⟧\nrest",
            "⟦-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg⟧",
            "\"⟦-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----⟧\"",
            "⟦-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNza\n-----END OPENSSH PRIVATE KEY-----⟧",
        ],
    );
    leaves_alone(&[
        "sk-learn-estimator-checks-and-more",
        "task-sk-12",
        "AKIA is a prefix",
        "eyJ alone",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "--------------------------------",
        "key-value store",
        "the bearer of this letter",
        "basic understanding required",
        "npm_config_registry",
    ]);
}

#[test]
fn assignments() {
    finds(
        Kind::Secret,
        &[
            "password=⟦hunter2⟧",
            "PASSWORD: ⟦Tr0ub4dor&3⟧",
            "password=⟦swordfish⟧&user=x",
            "password: ⟦swordfish⟧\n",
            "db_pass = '⟦correct horse 9⟧'",
            "\"password\": \"⟦s3cr3t⟧\"",
            "AWS_SECRET_ACCESS_KEY=⟦wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEK9⟧",
            "api_key: ⟦9f8e7d6c5b4a3210⟧",
            "x-api-key: ⟦aB3dE5gH7jK9⟧",
            "client_secret => \"⟦zZ9yY8xX7⟧\"",
            "token=⟦8f3a9c2b7d1e⟧",
            "My password is ⟦hunter2!⟧",
            "mein Passwort ist ⟦geheim99⟧",
            "postgres://⟦admin:s3cr3t⟧@db.internal/x",
            "https://⟦user:p@ss⟧@example.com/",
            "ｐａｓｓｗｏｒｄ＝⟦hunter2⟧",
        ],
    );
    leaves_alone(&[
        "password: required",
        "password = None",
        "password=password",
        "password: string",
        "the password must be long",
        "password is required",
        "Password: must contain letters",
        "password=${DB_PASSWORD}",
        "password = os.environ[\"X\"]",
        "token = get_token(user1)",
        "max_tokens=256",
        "token: 5",
        "api_key = settings.api_key",
        "password=********",
        "compass=north12",
        "author: Bob",
        "https://example.com:8080/path",
        "auth: basic",
        "secret: true",
        "token: \"\"",
        "password: ''",
    ]);
}

#[test]
fn overlaps_join_under_the_longer_name() {
    finds(Kind::Email, &["password=⟦alice@example.com⟧"]);
    finds(Kind::Secret, &["password='⟦to bob@example.com 7⟧'"]);
    finds(Kind::Card, &["phone ⟦3782 822463 10005⟧"]);
    finds(Kind::Ip, &["call ⟦192.168.1.100⟧"]);
}
