"""Adapters to other libraries, each in a module named after its library.

``import mmcontrast`` brings none of them. Each can be imported where its library is absent, and
asks for it only where it is needed.
"""
