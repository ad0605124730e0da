"""The panel: Python validates and computes, TypeScript draws."""
