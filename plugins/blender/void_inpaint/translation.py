# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel says in other languages.

What comes in: nothing. What goes out: a catalogue for Blender's own translation. English is the text in the code; what
has no entry stays English. It does nothing else.
"""

import bpy

GERMAN = {
    "Remove Object": "Objekt entfernen",
    "Open Shot": "Einstellung öffnen",
    "Or select an image, movie or scene strip": "Oder einen Bild-, Film- oder Szenenstreifen wählen",
    "Rendering frames to send": "Rendere Bilder zum Senden",
    "Sending frames": "Sende Bilder",
    "Waiting in the queue": "Warte in der Schlange",
    "You can keep working in the meantime": "Währenddessen kann weitergearbeitet werden",
    "Working": "Arbeite",
    "Reading frames": "Lese Bilder",
    "Reading the matte": "Lese die Maske",
    "Loading the engine": "Lade die Engine",
    "Looking at the shot": "Sehe die Einstellung durch",
    "Following the camera": "Verfolge die Kamera",
    "Finding shadows and reflections": "Suche Schatten und Spiegelungen",
    "Looking for the background": "Suche den Hintergrund",
    "Painting all frames": "Male alle Bilder",
    "Refining all frames": "Verfeinere alle Bilder",
    "Filling frames": "Fülle Bilder",
    "Finishing": "Schließe ab",
    "Fetching clean frames": "Hole die fertigen Bilder",
    "Making the strip": "Lege den Streifen an",
    "A few seconds left": "Noch wenige Sekunden",
    "About {} s left": "Noch etwa {} s",
    "About {} min left": "Noch etwa {} min",
    "About {} h left": "Noch etwa {} h",
    "of": "von",
    "Blue goes with it; orange only with Bold": "Blau geht mit; Orange nur mit Mutig",
    "Blue and orange go with it": "Blau und Orange gehen mit",
    "Original": "Original",
    "Clean": "Bereinigt",
    "Choose a mask, or draw one": "Eine Maske wählen oder zeichnen",
    "Choose the strip with the matte": "Den Streifen mit der Maske wählen",
    "A job was left behind": "Ein Auftrag blieb zurück",
    "Shadows and Reflections": "Schatten und Spiegelungen",
    "Effects": "Wirkungen",
    "Sure": "Sicher",
    "Bold": "Mutig",
    "Quality": "Qualität",
    "Draft": "Entwurf",
    "Fine": "Fein",
    "Results": "Ergebnisse",
    "Advanced": "Erweitert",
    "Notes": "Hinweise",
    "Ready": "Bereit",
    "is ready": "ist fertig",
    "real": "echt",
    "Nothing is removed yet": "Noch ist nichts entfernt",
}

CATALOGUE = {"de_DE": {("*", english): german for english, german in GERMAN.items()}}


def register() -> None:
    bpy.app.translations.register(__package__, CATALOGUE)


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
