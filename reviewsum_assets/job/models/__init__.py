"""Models on their way to a worker.

``source`` finds one, ``fit`` refuses it if its parts do not belong together, which ``layout`` knows
by family, ``directory`` makes it ready, ``conversion`` converts it for CTranslate2, ``files``
publishes and verifies folders, ``loaded`` loads an engine.
"""
