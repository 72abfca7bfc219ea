"""The ledger: everything spent, priced, attributed, and durable across crashes."""

from interplay.gateway.ledger.book import Book, LedgerFull, default_url, home

__all__ = ["Book", "LedgerFull", "default_url", "home"]
