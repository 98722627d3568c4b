"""Pictures that people look at: a contact sheet, a movie, an outline."""
