"""Names for containers that were given none: an adjective and the surname of someone who moved science on."""

import secrets

_ADJECTIVES = """
    able agile amber ample azure balmy bold brave breezy bright brisk busy calm candid careful cheerful
    clear clever cosmic crisp curious daring dazzling deft eager early earnest easy elegant epic fair
    famous fast fearless fine fleet fond frank fresh friendly gentle gifted glad golden graceful grand
    great happy hardy hearty helpful honest hopeful humble ideal jolly jovial keen kind lively loyal
    lucid lucky mellow merry mild modest neat nimble noble open patient placid polite proud quick quiet
    rapid ready robust serene sharp silent sincere smart smooth snappy solid spry stable steady stellar
    still sturdy subtle sunny swift tender thorough tidy tranquil true trusty upbeat vibrant vigilant
    vivid warm wise witty young zealous zen zesty
""".split()  # noqa: SIM905 - a list of quoted words cannot be read
_SURNAMES = """
    abel ada agnesi alhazen ampere archimedes aryabhata babbage banach bardeen bell bernoulli bhabha
    bohr boole born bose brahe brown cantor carson cauchy cerf chandra church clarke codd copernicus
    cori crick curie dalton darwin davinci dijkstra dirac easley edison einstein elion engelbart erdos
    euclid euler fermat fermi feynman franklin galileo gauss germain goodall hamilton hawking heisenberg
    herschel hertz hilbert hodgkin hooke hopper hubble hypatia jackson jang joliot kalam kapitsa kare
    keller kepler khayyam kilby knuth kowalevski lagrange lamarr lamport laplace leavitt leibniz
    lovelace lumiere maxwell mayer mccarthy meitner mendel mirzakhani montalcini morse napier neumann
    newton nightingale nobel noether panini pasteur payne perlman pike planck poincare ptolemy raman
    ramanujan ride ritchie rosalind rubin sagan sammet shannon shaw shockley sinoussi spence stonebraker
    swartz tesla thompson torvalds turing varahamihira villani volta wescoff wiles wing wozniak wright
    wu yalow zhukovsky
""".split()  # noqa: SIM905 - a list of quoted words cannot be read


def invent_name(attempt: int) -> str:
    """A random name; from the second attempt on a digit makes a clash less likely."""
    name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
    return name if not attempt else f"{name}{secrets.randbelow(10)}"
