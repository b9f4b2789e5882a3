def größe(x):
    return (
        x
        + "ä" * 3
        + undefined_名前
    )
größe("é")
