//! Which addresses are public: pure, over IANA's special-purpose registries (RFC 6890 and what came after).
//!
//! What is not known to be public is not public. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, ISATAP) is
//! judged as what it is, because that is where the packets go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of IPv4 that no function may reach without being told by name.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32, &str); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared between a provider's customers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Public by its number, but a cloud's own service for the machine it stands on.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata service"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for measurements"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Blocks inside 2000::/3 that are not public, and names for blocks outside it.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32, &str); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, "this network"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a private translation to IPv4"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discarded"),
    // Teredo among them.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, "for segment routing"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// Why an address is not public; none if it is.
pub fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

fn v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |(block, length, _): &&(Ipv4Addr, u32, _)| {
        (address.to_bits() ^ block.to_bits()).checked_shr(32 - length).unwrap_or_default() == 0
    };
    NOT_PUBLIC_V4.iter().find(within).map(|(_, _, why)| *why)
}

fn v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded(address) {
        return v4(inner);
    }
    let within = |(block, length, _): &&(Ipv6Addr, u32, _)| {
        (address.to_bits() ^ block.to_bits()).checked_shr(128 - length).unwrap_or_default() == 0
    };
    let known = NOT_PUBLIC_V6.iter().find(within).map(|(_, _, why)| *why);
    // Everything that was ever given out lies in 2000::/3.
    let given_out = address.segments()[0] >> 13 == 1;
    known.or(if given_out { None } else { Some("reserved") }).or(isatap(address).and_then(v4))
}

/// The IPv4 address that packets to this one end at, where it says so itself.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let joined = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // Mapped (RFC 4291) and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => joined(high, low),
        // NAT64's well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => joined(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => joined(high, low),
        _ => None,
    }
}

/// The IPv4 address of an ISATAP interface (RFC 5214). It may stand under any prefix, so both are judged.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::why_not_public;

    #[test]
    fn every_special_block_is_refused_at_both_its_ends() {
        for (address, why) in [
            ("0.0.0.0", "this network"),
            ("0.255.255.255", "this network"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "shared between a provider's customers"),
            ("100.100.100.200", "shared between a provider's customers"),
            ("100.127.255.255", "shared between a provider's customers"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("168.63.129.16", "a cloud's metadata service"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "for protocols"),
            ("192.0.2.1", "for documentation"),
            ("192.88.99.1", "a relay of 6to4"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("198.18.0.0", "for measurements"),
            ("198.19.255.255", "for measurements"),
            ("198.51.100.7", "for documentation"),
            ("203.0.113.7", "for documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "this network"),
            ("::1", "loopback"),
            ("::127.0.0.1", "reserved"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:0:10.0.0.1", "private"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b:1::8.8.8.8", "a private translation to IPv4"),
            ("100::1", "discarded"),
            ("2001::1", "for protocols"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "for protocols"),
            ("2001:db8::1", "for documentation"),
            ("2002:7f00:1::", "loopback"),
            ("2002:c0a8:101::1", "private"),
            ("2606:4700::5efe:10.0.0.1", "private"),
            ("2606:4700::200:5efe:192.168.0.1", "private"),
            ("3fff::1", "for documentation"),
            ("4000::1", "reserved"),
            ("5f00::1", "for segment routing"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::1", "multicast"),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(why_not_public(parsed), Some(why), "{address}");
        }
    }

    #[test]
    fn their_neighbours_are_public() {
        for address in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "3ffe::1",
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(why_not_public(parsed), None, "{address}");
        }
    }

    proptest! {
        #[test]
        fn what_the_standard_library_calls_local_is_never_public(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let local = address.is_loopback() || address.is_private() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!local || why_not_public(address.into()).is_some());
        }

        #[test]
        fn wrapping_an_address_never_opens_it(bits: u32, prefix: u64) {
            let inner = Ipv4Addr::from_bits(bits);
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let judged = why_not_public(inner.into());
            for wrapped in [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(why_not_public(wrapped.into()), judged);
            }
            // Whatever stands before it.
            let isatap = Ipv6Addr::from_bits(u128::from(prefix) << 64 | 0x5efe << 32 | u128::from(bits));
            prop_assert!(judged.is_none() || why_not_public(isatap.into()).is_some());
        }

        #[test]
        fn an_interface_inside_a_private_prefix_is_private(bits: u32, prefix in prop::sample::select(vec![0xfd00_u16, 0xfe80])) {
            let address = Ipv6Addr::new(prefix, 0, 0, 0, 0x200, 0x5efe, (bits >> 16) as u16, bits as u16);
            prop_assert!(why_not_public(address.into()).is_some());
        }

        #[test]
        fn outside_global_unicast_nothing_is_public_by_itself(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let public = why_not_public(address.into()).is_none();
            let [first, second, ..] = address.segments();
            let translated = address.to_ipv4_mapped().is_some() || (first, second) == (0x64, 0xff9b)
                || address.segments()[4..6] == [0xffff, 0];
            prop_assert!(!public || first >> 13 == 1 || translated);
        }
    }
}
