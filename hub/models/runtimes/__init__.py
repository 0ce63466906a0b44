"""How a model is computed: one file per kind of runtime, each turning typed inputs into raw answers.

Owns parsing of model files and everything that scikit-learn, skops and ONNX Runtime are asked. Refuses pickles, types
that are not on the closed list, ONNX graphs with external data or foreign operators. Everything here is imported where
it is used, so that naming the room costs nothing.
"""
