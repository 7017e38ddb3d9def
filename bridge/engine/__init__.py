"""The loops: each reads rows, asks policy, writes rows, and can be killed between any two lines."""
