"""Files that fresh processes run to try an exported model; they import nothing of this project, nor does it
import them."""
