"""How commands speak to people, programs and farms."""
