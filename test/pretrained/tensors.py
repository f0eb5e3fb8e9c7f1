"""The tensors of a saved folder as Python's safetensors reads them.

    python3 tensors.py FOLDER

prints the shape and the values of each by its name, as JSON.
"""

import json
import sys
from pathlib import Path

from reference import read_weights

weights = read_weights(Path(sys.argv[1]))
print(json.dumps({name: {"shape": list(w.shape), "values": w.ravel().tolist()} for name, w in weights.items()}))
