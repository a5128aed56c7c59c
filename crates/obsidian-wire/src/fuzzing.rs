//! Bodies for fuzzers: each takes any bytes and must neither panic nor hang. CI runs them under proptest.
//!
//! [`hub_answers`] lets a POP's side of the link talk with a hub that says whatever the bytes say. The hub's side is in
//! `obsidian-hub`, which takes [`pieces`] and [`Upload`] from here. No network: bodies of HTTP messages begin and end
//! in memory.

mod answers;

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use obsidian_types::OutboundGrant;
use prost::Message;
use tokio::sync::mpsc;

use crate::outbound::address::why_not_public;

pub use answers::{hub_answer_seeds, hub_answers};

/// Pieces of one input; more would only repeat what fewer do.
pub const MAX_PIECES: usize = 64;
/// Streams among which pieces are divided.
pub const STREAMS: usize = 4;

const STREAM: u8 = 0b0011;
const BARE: u8 = 0b0100;
const LAST: u8 = 0b1000;
/// Flag and length in front of a gRPC message.
const FRAME_BYTES: usize = 5;

/// A host that a function asks for, as the manifest spells it, and an address that its name may have: what is granted
/// is spelled one way only and covers nothing else, and an address is judged the same inside an address of IPv6.
pub fn outbound(data: &[u8]) {
    if let Some(grant) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<OutboundGrant>().ok()) {
        assert_eq!(grant.to_string().parse::<OutboundGrant>().ok().as_ref(), Some(&grant));
        assert!(grant.covers(&grant.host, grant.port.unwrap_or(443)));
        assert!(!grant.covers(&format!("{}x", grant.host), 443) && !grant.covers(&grant.host, 0));
    }
    if let Some(bits) = data.first_chunk::<4>() {
        let address = Ipv4Addr::from(*bits);
        let judged = why_not_public(address.into());
        assert_eq!(judged, why_not_public(address.to_ipv6_mapped().into()));
        assert!(judged.is_some() || !(address.is_private() || address.is_loopback() || address.is_link_local()));
    }
    if let Some(bits) = data.first_chunk::<16>() {
        let address = Ipv6Addr::from(*bits);
        let inside = address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
        assert!(why_not_public(address.into()).is_some() || !inside);
    }
}

/// Hosts and addresses to mutate.
pub fn outbound_seeds() -> Vec<Vec<u8>> {
    let texts = ["api.example.net:443", "[2001:db8::1]:8080", "127.0.0.1", "xn--a.example"]
        .map(|text| text.as_bytes().to_vec());
    let addresses =
        ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "fe80::1", "2001:4860:4860::8888", "fd00::5efe:808:808"];
    let addresses = addresses.iter().filter_map(|text| Some(text.parse::<Ipv6Addr>().ok()?.octets().to_vec()));
    texts.into_iter().chain(addresses).collect()
}

/// Something a peer sends.
#[derive(Clone, Debug)]
pub struct Piece {
    /// On which stream, below [`STREAMS`].
    pub stream: usize,
    /// Whether it ends its side after that.
    pub last: bool,
    /// The bytes of the stream: a message in its frame, or anything.
    pub bytes: Bytes,
}

/// Reads an input as pieces: a byte of flags, two of length, and so many bytes, which get a right frame unless the
/// flags say that they come bare.
pub fn pieces(mut data: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((&[flags, low, high], rest)) = data.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        let mut bytes = Vec::with_capacity(FRAME_BYTES + length);
        if flags & BARE == 0 {
            bytes.push(0);
            bytes.extend((length as u32).to_be_bytes());
        }
        bytes.extend(content);
        pieces.push(Piece { stream: usize::from(flags & STREAM), last: flags & LAST != 0, bytes: bytes.into() });
        if pieces.len() == MAX_PIECES {
            break;
        }
        data = rest;
    }
    pieces
}

/// Writes `message` as the piece that [`pieces`] reads.
pub fn piece(stream: usize, message: &impl Message) -> Vec<u8> {
    let content = message.encode_to_vec();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![stream as u8 & STREAM];
    bytes.extend(length.to_le_bytes());
    bytes.extend(content);
    bytes
}

/// What a peer has sent so far and goes on sending, as the body of an HTTP message.
#[derive(Debug)]
pub struct Upload(mpsc::Receiver<Bytes>);

impl Upload {
    /// The body and the end that fills it. Dropping that ends the body.
    pub fn new() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(MAX_PIECES);
        (sender, Self(receiver))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Takes messages out of the bytes that a node of ours sent; anything that is none is a fault of ours.
#[derive(Debug, Default)]
pub struct Received(Vec<u8>);

impl Received {
    /// Adds bytes and returns the messages that are complete now.
    ///
    /// # Panics
    /// When the bytes are not messages in frames.
    pub fn add<M: Message + Default>(&mut self, bytes: &[u8]) -> Vec<M> {
        self.0.extend(bytes);
        let mut messages = Vec::new();
        while let Some((&[flag, length @ ..], rest)) = self.0.split_first_chunk::<FRAME_BYTES>() {
            assert_eq!(flag, 0, "nothing of ours is compressed");
            let length = u32::from_be_bytes(length) as usize;
            let Some(content) = rest.get(..length) else { break };
            let message = M::decode(content);
            assert!(message.is_ok(), "a node of ours wrote a message that cannot be read");
            messages.extend(message);
            self.0.drain(..FRAME_BYTES + length);
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{outbound, outbound_seeds};

    proptest! {
        #[test]
        fn no_bytes_break_the_policy(seed in 0usize..10, at: prop::sample::Index, byte: u8, data: [u8; 16]) {
            let mut seed = outbound_seeds().swap_remove(seed);
            let at = at.index(seed.len());
            seed[at] = byte;
            outbound(&seed);
            outbound(&data);
        }
    }
}
