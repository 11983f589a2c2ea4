"""How fast the pipeline is: a floor, the SDK's plain way, our stages and the whole command, on the same rows."""
