//! What a proxy claims and signs: checks, the rules of protocol.md 4.3, and keeping the best payment.

use cocoon_ledger::claims::ClaimViolation;
use cocoon_ledger::{AdjustedTokens, Claims};
use cocoon_wire::msg::proxy;

use super::core::WorkerCore;
use crate::link::LinkId;

impl WorkerCore {
    /// The amounts of a message of a proxy, its payment checked. Changes nothing.
    pub(super) fn heard(
        &self,
        link: LinkId,
        boc: Option<&[u8]>,
        db: i64,
        max: i64,
    ) -> Result<Claims, String> {
        let signed = match boc {
            None => AdjustedTokens::ZERO,
            Some(boc) => {
                let sc = self.links.get(&link).and_then(|l| l.account);
                let account = sc.and_then(|sc| Some((sc, self.accounts.get(&sc)?)));
                let (sc, account) = account.ok_or("the proxy is not known yet")?;
                account.check(sc, boc)?
            }
        };
        let amount = |name: &str, n: i64| {
            AdjustedTokens::from_wire(n).map_err(|e| format!("{name} is impossible: {e}"))
        };
        Ok(Claims::raised(
            signed,
            amount("db_tokens", db)?,
            amount("max_tokens", max)?,
        ))
    }

    /// Raises what is known of a proxy and keeps its payment if it is better. `boc` was checked by [`Self::heard`].
    pub(super) fn learn(&mut self, link: LinkId, boc: Option<&[u8]>, heard: Claims) {
        let Some(sc) = self.links.get(&link).and_then(|l| l.account) else {
            return;
        };
        let Some(a) = self.accounts.get_mut(&sc) else {
            return;
        };
        let mut news = a.claims.merge(heard);
        if let Some(boc) = boc {
            news |= a.keep(heard.signed(), boc);
        }
        if news {
            self.touch(sc);
        }
    }

    /// The text for a proxy that went back behind its own words; the operator should know, too.
    pub(super) fn rolled_back(&mut self, link: LinkId, violation: ClaimViolation) -> String {
        let account = self.links.get(&link).and_then(|l| l.account);
        let proxy = account
            .and_then(|sc| self.accounts.get(&sc))
            .map(|a| a.proxy);
        if let Some(proxy) = proxy {
            self.alarm(format!(
                "proxy {proxy} shows less than it had shown before, so its books were rolled back or it lies: {violation}. The signed payment held is kept and will be presented"
            ));
        }
        violation.to_string()
    }

    /// `proxy.workerRequestPayment`: all three amounts may only grow, and the payment must be there (4.3).
    pub(super) fn on_request_payment(
        &mut self,
        link: LinkId,
        p: &proxy::WorkerRequestPayment,
    ) -> Result<(), String> {
        let boc = p.signed_payment.boc().ok_or("no signed payment is shown")?;
        let heard = self.heard(link, Some(boc), p.db_tokens, p.max_tokens)?;
        let Some(l) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if let Err(e) = l.floor.advance(heard) {
            return Err(self.rolled_back(link, e));
        }
        self.learn(link, Some(boc), heard);
        Ok(())
    }

    /// A payment that comes alone or with a request: taken over if it is valid and higher (4.5).
    pub(super) fn on_loose_payment(&mut self, link: LinkId, boc: &[u8]) -> Result<(), String> {
        let heard = self.heard(link, Some(boc), 0, 0)?;
        self.learn(link, Some(boc), heard);
        Ok(())
    }
}
