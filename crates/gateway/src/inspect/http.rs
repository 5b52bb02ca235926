//! Plain HTTP on a connection to a name: every request must be for that name.
//!
//! Where no rule names it, as in mode `internet`, a request for another host is judged like a connection to it, and nothing is looked at
//! when no deny rule could matter.

use rcc_spec::HostName;
use tokio::time::Instant;

use super::{HEAD_TIME, Held, More, Place, Refused, Way, liftable};
use crate::http::{Asked, Authority, Fault, Head, Requests, Step};
use crate::judge::judge_destination;
use crate::refusal::{Destination, Host, Refusal};
use crate::relay::Cut;
use crate::transfer::{carry, finish};

pub(super) fn refusal(fault: Fault) -> Refusal {
    match fault {
        Fault::HostUnreadable => Refusal::denied(fault.code(), fault.sentence()),
        _ => liftable(fault.code(), fault.sentence()),
    }
}

/// Moves a connection that begins with a request line.
pub(super) async fn pass(way: &Way<'_>, name: &HostName, held: Held) -> Result<(), Cut> {
    if way.live.verdict().rule.is_none() && !way.shared.rules().denies_names() {
        way.live.passed_unchecked();
        return way.pass_the_rest(held).await;
    }
    way.watch.expect_responses();
    Exchange {
        way,
        name,
        held,
        passed: 0,
        requests: Requests::default(),
        heads: 0,
        deadline: None,
    }
    .run()
    .await
}

struct Exchange<'way> {
    way: &'way Way<'way>,
    name: &'way HostName,
    held: Held,
    /// So many of the bytes held may go on and have not yet.
    passed: usize,
    requests: Requests,
    /// Heads that went on.
    heads: u64,
    /// Until when the head that has begun must be complete.
    deadline: Option<Instant>,
}

impl Exchange<'_> {
    async fn run(mut self) -> Result<(), Cut> {
        loop {
            let waiting = self.held.bytes().get(self.passed..).unwrap_or_default();
            match self.requests.step(waiting) {
                Ok(Step::Forward(count)) => self.passed += count,
                Ok(Step::Drop(count)) => {
                    self.release().await?;
                    self.held.drop_first(count);
                }
                Ok(Step::Unseen(count)) => {
                    let in_hand = usize::try_from(count).unwrap_or(usize::MAX);
                    let in_hand = in_hand.min(waiting.len());
                    self.passed += in_hand;
                    let rest = count - u64::try_from(in_hand).unwrap_or(0);
                    if rest > 0 && !self.carry(rest).await? {
                        finish(self.way.upstream);
                        return Ok(());
                    }
                }
                Ok(Step::Head(count, head)) => {
                    self.deadline = None;
                    if let Err(refusal) = self.judge(&head) {
                        self.release().await?;
                        return self.refuse(refusal);
                    }
                    let asked = Asked {
                        is_head: head.is_head,
                        upgrade: head.upgrade,
                    };
                    self.way
                        .watch
                        .responses(|responses| responses.expect(asked));
                    self.heads += 1;
                    self.release().await?;
                    self.passed = self.held.leave_out(count, &head.leave_out);
                    if head.upgrade {
                        self.release().await?;
                        if self.way.watch.switched().await {
                            return self.way.pass_the_rest(self.held).await;
                        }
                    }
                }
                Ok(Step::More) => {
                    self.release().await?;
                    if !self.more().await? {
                        finish(self.way.upstream);
                        return Ok(());
                    }
                }
                Err(fault) => return self.stop(fault).await,
            }
        }
    }

    async fn release(&mut self) -> Result<(), Cut> {
        let passed = std::mem::take(&mut self.passed);
        self.held.release(self.way, passed).await
    }

    /// Moves bytes of a body; tells whether they came.
    async fn carry(&mut self, count: u64) -> Result<bool, Cut> {
        self.release().await?;
        let Way {
            agent,
            upstream,
            shared,
            traffic,
            ..
        } = *self.way;
        Ok(carry(agent, upstream, &shared.relay, &traffic.sent, count, None).await?)
    }

    /// Waits for more; tells whether the client goes on.
    async fn more(&mut self) -> Result<bool, Cut> {
        let in_head = !self.held.bytes().is_empty() && self.requests.is_in_head();
        if in_head {
            self.deadline
                .get_or_insert_with(|| Instant::now() + HEAD_TIME);
        }
        match self.held.more(self.way, self.deadline).await? {
            More::Bytes => Ok(true),
            More::End if !in_head => Ok(false),
            More::End | More::Late => {
                let unfinished = Fault::Malformed("the HTTP request did not become complete");
                self.refuse_fault(unfinished).await?;
                Ok(false)
            }
        }
    }

    /// Is the request for this name?
    fn judge(&self, head: &Head) -> Result<(), Refusal> {
        let verdict = self.way.live.verdict();
        for authority in head.target.iter().chain([&head.host]) {
            let destination = self.way.destination;
            let port = authority.port.unwrap_or(destination.port);
            let is_own = matches!(&authority.host, Host::Name(name) if name == self.name);
            if is_own && port == destination.port {
                continue;
            }
            if let Some(rule) = &verdict.rule {
                let sentence = mismatch(authority, port);
                return Err(Refusal {
                    rule: Some(rule.to_string()),
                    ..Refusal::denied("http_host_mismatch", sentence)
                });
            }
            // The connection goes where it goes; only who is asked for there differs.
            let other = Destination {
                host: authority.host.clone(),
                ..*destination
            };
            judge_destination(&self.way.shared.rules(), &other)?;
            match &authority.host {
                Host::Name(name) => self.way.live.also_for(name),
                Host::Address(_) => self.way.live.passed_unchecked(),
            }
        }
        Ok(())
    }

    fn refuse(self, refusal: Refusal) -> Result<(), Cut> {
        Err(Cut::Refused(Box::new(Refused {
            refusal,
            place: self.place(),
            early: self.held.into_bytes(),
        })))
    }

    fn place(&self) -> Place {
        match self.heads {
            0 => Place::Opening,
            _ => Place::Later,
        }
    }

    async fn stop(mut self, fault: Fault) -> Result<(), Cut> {
        self.release().await?;
        let place = self.place();
        self.way.stop(refusal(fault), self.held, place).await
    }

    /// As [`Exchange::stop`], where the exchange lives on.
    async fn refuse_fault(&mut self, fault: Fault) -> Result<(), Cut> {
        let held = std::mem::take(&mut self.held);
        self.way.stop(refusal(fault), held, self.place()).await
    }
}

fn mismatch(authority: &Authority, port: u16) -> String {
    let named = Destination {
        host: authority.host.clone(),
        port,
        protocol: rcc_spec::Protocol::Tcp,
    };
    format!("the HTTP request is for another host, {named}")
}
