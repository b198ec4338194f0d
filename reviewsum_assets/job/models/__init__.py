"""Models on their way to a worker.

``source`` finds one, ``directory`` makes it ready, ``conversion`` converts it for CTranslate2,
``files`` publishes and verifies folders, ``loaded`` loads an engine.
"""
