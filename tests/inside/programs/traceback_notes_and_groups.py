error = ValueError("with a note")
error.add_note("the note")
raise ExceptionGroup("several", [error, TypeError("other"), ExceptionGroup("deep", [OSError(2, "gone")])])
