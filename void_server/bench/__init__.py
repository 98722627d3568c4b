"""Everything that measures: on clips with known answers, on the wire."""
