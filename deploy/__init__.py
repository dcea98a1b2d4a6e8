"""Deployment: a trained model without a Trainer, from Python, scikit-learn, ONNX, torch.export and HTTP."""
