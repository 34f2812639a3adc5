"""The reference model that ships in `ctxpress/engine/reference_model`: how it is made."""
