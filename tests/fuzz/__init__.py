"""Replies that were mutilated on the wire, and what becomes of them."""
