"""The bilingual lexicon: word for word, English to Spanish, as the closed world translates.

Spanish words are written without accents (`limon`, `nino`), because the model's words are plain letters; `SPELLED`
gives the spelling that a voice needs. No Spanish word looks like an English word of this world, so that a word alone
tells its language. Word for word means: one word each, the article always `el`, no agreement.
"""

from __future__ import annotations

import random
import re
import unicodedata

_TABLE = """
the el, a un, and y, is es, are están, was era, in en, on sobre, with con, without sin_, my mi, your tu, his su,
we nosotros,
i yo, you usted, she ella, they ellos, it eso, this este, that ese, here aquí, there allí, very muy, more más,
less menos, also también, but pero, or o_, when cuando, where donde, who quién, always siempre, never nunca,
today hoy, tomorrow mañana, yesterday ayer, now ahora, again otra, yes sí, not no_, for para, from desde, to hacia,
under bajo, near cerca, far lejos, all todo, nothing nada, something algo, every cada, because porque, only solo,
one uno, two dos, three tres, four cuatro, five cinco, six seis, seven siete, eight ocho, nine nueve, ten diez,
twelve doce, fifteen quince, twenty veinte, thirty treinta, hundred cien,
apple manzana, orange naranja, lemon limón, cherry cereza, grape uva, peach durazno, sugar azúcar, bread pan_,
coffee café, water agua, milk leche, cheese queso, butter mantequilla, egg huevo, meat carne, chicken pollo, rice arroz,
soup sopa, salad ensalada, salt sal, pepper pimienta, potato papa, tomato tomate, onion cebolla, garlic ajo,
carrot zanahoria, strawberry fresa, cake pastel, chocolate chocolate_, tea té, juice jugo, wine vino, oil aceite,
honey miel, nut nuez, corn maíz, bean frijol, mushroom hongo, ham jamón, ice hielo, breakfast desayuno, dinner cena,
lunch almuerzo, dog perro, cat gato, horse caballo, tiger tigre, monkey mono, rabbit conejo, lion león, bear oso,
bird pájaro, fish pez, mouse ratón, cow vaca, pig cerdo, sheep oveja, goat cabra, duck pato, hen gallina, wolf lobo,
fox zorro, snake serpiente, frog rana, bee abeja, ant hormiga, spider araña, butterfly mariposa, elephant elefante,
turtle tortuga, whale ballena, eagle águila, owl búho, deer ciervo, donkey burro, red rojo, green verde, blue azul,
yellow amarillo, purple morado, black negro, white blanco, pink rosado, brown marrón, gray gris, table mesa,
window ventana, garden jardín, river río, mountain montaña, paper papel, music música, doctor médico, teacher maestro,
pencil lápiz, bottle botella, camera cámara, castle castillo, phone teléfono, ribbon cinta, ladder escalera,
carpet alfombra, street calle, button botón, pocket bolsillo, mirror espejo, bell campana, kitchen cocina,
blanket manta, hammer martillo, candle vela, basket cesta, desert desierto, bridge puente, jacket chaqueta,
guitar guitarra, pillow almohada, ocean océano, forest bosque, island isla, office oficina, rainbow arcoíris,
summer verano, winter invierno, thunder trueno, train tren, market mercado, school escuela, evening tarde,
morning madrugada, night noche, day día, week semana, month mes, book libro, hello hola, goodbye adiós, thanks gracias,
please por_favor, house casa, door puerta, chair silla, bed cama, room cuarto, wall pared, floor suelo, roof techo,
lamp lámpara, key llave, clock reloj, knife cuchillo, fork tenedor, spoon cuchara, plate plato, cup taza, glass vaso,
box caja, towel toalla, soap jabón, oven horno, city ciudad, country país, church iglesia, bank banco, store tienda,
road camino, car coche, bus autobús, boat barco, plane avión, bicycle bicicleta, station estación, airport aeropuerto,
hospital hospital_, library biblioteca, beach playa, sea mar, lake lago, sky cielo, sun sol_, moon luna, star estrella,
cloud nube, rain lluvia, snow nieve, wind viento, fire fuego, earth tierra, stone piedra, sand arena_, tree árbol,
leaf hoja, flower flor, grass hierba, field campo, hill colina, man hombre, woman mujer, boy niño, girl niña,
mother madre, father padre, brother hermano, sister hermana, son hijo, daughter hija, friend amigo, family familia,
king rey, queen reina, head cabeza, hand mano, foot pie_, eye ojo, ear oreja, mouth boca, nose nariz, hair pelo,
heart corazón, arm brazo, leg pierna, shirt camisa, shoe zapato, hat sombrero, dress vestido, coat abrigo,
pants pantalones, money dinero, gift regalo, letter carta, word palabra, name nombre, number número, game juego,
song canción, story cuento, dream sueño, time tiempo, work trabajo, war guerra, peace paz, life vida, love amor,
world mundo, truth verdad, big grande, small pequeño, hot caliente, cold frío, happy feliz, sad triste, fast rápido,
slow lento, high alto, low bajito, hard duro, soft suave, long largo, short corto, new nuevo, old viejo, young joven,
good bueno, bad malo, rich rico, poor pobre, strong fuerte, weak débil, clean limpio, dirty sucio, full lleno,
empty vacío, sweet dulce, beautiful hermoso, tired cansado, drink beber, eat comer, sleep dormir, walk caminar,
run correr, swim nadar, sing cantar, dance bailar, read leer, write escribir, speak hablar, listen escuchar, see ver,
look mirar, buy comprar, sell vender, open abrir, close cerrar, give dar, take tomar, want querer, live vivir,
work_ trabajar, play jugar, travel viajar, cook cocinar, wash lavar, wait esperar, learn aprender, think pensar,
help ayudar, cross cruzar, ready listo, careful cuidado, wonderful maravilloso, great fantástico, exactly exactamente,
quiet silencio, street_ avenida, push empujar, smile sonrisa, breathe respirar, chair_ asiento, doctor_ doctora
"""


def fold(word: str) -> str:
    """A Spanish word in plain letters: accents dropped, n for n with tilde."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


TO_SPANISH: dict[str, str] = {}
SPELLED: dict[str, str] = {}
for _pair in _TABLE.replace("\n", " ").split(","):
    _english, _spanish = _pair.split()
    if "_" in _pair:  # marked: looks like an English word, or says twice what another pair says
        continue
    TO_SPANISH[_english] = fold(_spanish)
    SPELLED[fold(_spanish)] = _spanish
TO_ENGLISH = {spanish: english for english, spanish in TO_SPANISH.items()}

_SMALL = frozenset(
    re.findall(
        r"\w+",
        """
    the a and is are was in on with my your his we i you she they it this that here there very more less also but
    or when where who always never today tomorrow yesterday now again yes for from to under near far all nothing
    something every because only
    """,
    )
)
PAIRED_CONTENT = tuple(word for word in TO_SPANISH if word not in _SMALL)

_SENTENCES = (
    "the {} is here", "my {} is near the {}", "the {} and the {}", "i walk to the {}", "we want more {}",
    "she was in the {} yesterday", "this {} is very {}", "they are in the {} with my {}", "the {} was under the {}",
    "today we buy the {} and the {}", "{} {} {}", "{} and {} and {}", "you are always in the {}", "{} {} {} {}",
    "she is from the {}", "my {} is here but your {} is there", "where is the {}",
)  # fmt: skip


def write_sentence(rng: random.Random) -> list[str]:
    """An English sentence of which every word has a Spanish one."""
    template = rng.choice(_SENTENCES)
    return template.format(*rng.choices(PAIRED_CONTENT, k=template.count("{}"))).split()
