"""Version 2 of the embedded models: things that people type first, drawn as flat icons."""
