use std::sync::Arc;
use std::time::Duration;

use obsidian_types::TenantId;

use super::{Admission, Arrival, Cost, Place, Refusal, TurnedAway};
use crate::keys::TenantLimits;
use crate::limits::IngressLimits;

const ONE: Cost = Cost { places: 1, tokens: 10 };

fn limits(inflight: usize, queue: usize, queue_per_tenant: usize) -> Arc<IngressLimits> {
    Arc::new(IngressLimits { inflight, queue, queue_per_tenant, ..IngressLimits::default() })
}

fn arrive(admission: &Admission, tenant: &str) -> Result<Arrival, TurnedAway> {
    admission.arrive(&TenantId::new(tenant), &TenantLimits::default())
}

async fn place(admission: &Admission, tenant: &str) -> Result<Place, TurnedAway> {
    arrive(admission, tenant)?.place(ONE).await
}

#[tokio::test]
async fn the_queue_is_bounded_for_each_tenant_and_for_all() {
    let admission = Admission::new(limits(1, 3, 2));
    let running = place(&admission, "a").await.unwrap();
    let waiting = [arrive(&admission, "a").unwrap(), arrive(&admission, "a").unwrap()];
    let away = arrive(&admission, "a").err().unwrap();
    assert_eq!((away.refusal, away.to_api().status.as_u16()), (Refusal::TenantQueue, 429));
    let other = arrive(&admission, "b").unwrap();
    let away = arrive(&admission, "b").err().unwrap();
    assert_eq!((away.refusal, away.to_api().status.as_u16()), (Refusal::Queue, 503));
    assert_eq!(away.to_api().retry_after, Some(1), "nothing was measured yet");
    drop((waiting, other, running));
    assert!(admission.is_idle());
}

#[tokio::test]
async fn a_place_goes_to_the_next_and_a_client_that_leaves_is_skipped() {
    let admission = Admission::new(limits(1, 10, 10));
    let running = place(&admission, "a").await.unwrap();
    let mut first = Box::pin(place(&admission, "a"));
    let mut second = Box::pin(place(&admission, "b"));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    drop(first);
    drop(running);
    let second = second.await.unwrap();
    drop(second);
    assert!(admission.is_idle());
    // Granted, but its client left before it could take the place.
    let running = place(&admission, "a").await.unwrap();
    let mut third = Box::pin(place(&admission, "a"));
    assert!(futures::poll!(&mut third).is_pending());
    drop(running);
    drop(third);
    assert!(admission.is_idle());
}

#[tokio::test]
async fn patience_ends() {
    let admission = Admission::new(Arc::new(IngressLimits {
        queue_wait: Duration::from_millis(5),
        ..(*limits(1, 10, 10)).clone()
    }));
    let running = place(&admission, "a").await.unwrap();
    let away = place(&admission, "a").await.err().unwrap();
    assert_eq!((away.refusal, away.to_api().status.as_u16()), (Refusal::Waited, 503));
    drop(running);
    assert!(admission.is_idle());
}

#[tokio::test]
async fn a_tenants_allowance_per_minute_holds() {
    let admission = Admission::new(limits(10, 10, 10));
    let tenant = TenantId::new("a");
    let two = TenantLimits { requests_per_minute: Some(2), ..TenantLimits::default() };
    for _ in 0..2 {
        drop(admission.arrive(&tenant, &two).unwrap());
    }
    let away = admission.arrive(&tenant, &two).err().unwrap();
    assert_eq!(away.refusal, Refusal::Requests);
    assert!((25..=30).contains(&away.retry_after), "half a minute until the next: {}", away.retry_after);
    let tokens = TenantLimits { tokens_per_minute: Some(600), ..TenantLimits::default() };
    let spender = TenantId::new("b");
    let place = admission.arrive(&spender, &tokens).unwrap().place(ONE).await.unwrap();
    place.spent(900);
    drop(place);
    let away = admission.arrive(&spender, &tokens).err().unwrap();
    assert_eq!(away.refusal, Refusal::Tokens);
    assert!((29..=31).contains(&away.retry_after), "300 tokens of debt at 10 a second: {}", away.retry_after);
    // Another tenant has its own.
    assert!(arrive(&admission, "c").is_ok());
}

#[tokio::test]
async fn concurrency_of_one_tenant_holds_and_more_places_serve_at_once() {
    let admission = Admission::new(limits(10, 10, 1));
    let tenant = TenantId::new("a");
    let one = TenantLimits { concurrent: Some(1), ..TenantLimits::default() };
    let running = admission.arrive(&tenant, &one).unwrap().place(ONE).await.unwrap();
    let mut second = Box::pin(admission.arrive(&tenant, &one).unwrap().place(ONE));
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(admission.arrive(&tenant, &one).err().unwrap().refusal, Refusal::TenantQueue);
    drop(running);
    drop(second.await.unwrap());
    // A reload wakes who waits for room.
    let full = Admission::new(limits(1, 10, 10));
    let running = place(&full, "a").await.unwrap();
    let mut waiting = Box::pin(place(&full, "b"));
    assert!(futures::poll!(&mut waiting).is_pending());
    full.reload(limits(2, 10, 10), |_| true);
    drop((waiting.await.unwrap(), running));
    assert!(full.is_idle());
}
