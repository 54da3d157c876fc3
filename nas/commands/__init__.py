"""The commands of ``nas``, by what they work on."""
