"""Players, plots and widgets for chapters and cards; only `studies` and the chapters import it."""
