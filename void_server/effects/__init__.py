"""Which pixels does the object affect: cues, a learned predictor, and the quadmask made from both mattes."""
