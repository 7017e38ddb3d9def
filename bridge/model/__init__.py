"""The words of the house: frozen values that every floor shares. Nothing here does I/O."""
