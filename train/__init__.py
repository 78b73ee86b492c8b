"""Shards to a checkpoint (`vice-train`): dense SwAV over regions. No Ray here."""
