"""The networks themselves: their files, their number formats, and what makes them fast on a card."""
