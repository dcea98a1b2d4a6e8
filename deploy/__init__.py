"""A trained model without a Trainer: from Python, as scikit-learn, ONNX or torch.export, and over HTTP."""
