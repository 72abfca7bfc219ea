"""How every request is phrased: sentences of training, and held-out sentences that only tests and the bench use.

A form is a sentence with slots: {p} a phrase of one to four words, {x} and {y} one word, {w} a list of words, {n} and
{m} numbers, {c} a color, {s} a shape, {name} a name, {a} an article. The parser is made from the same sentences
(parser.py), so every form means what it says, and more than the forms is understood: politeness around them, and
self-corrections inside ("in five, no, seven seconds").
"""

from __future__ import annotations

from interplay.training.language.facts import SMALL_TALK

Forms = tuple[str, ...]

# kind: (sentences of training, held-out sentences). Order matters to the parser: the first that fits is meant.
FORMS: dict[str, tuple[Forms, Forms]] = {
    "stop": (
        ("stop", "okay stop now", "please stop that", "stop now", "please stop", "cancel that", "stop that",
         "okay stop",
         "stop please", "you can stop now",
         "you can stop", "stop everything", "that is all thank you", "stop saying that", "no more now"),
        ("okay that is enough", "you may stop now", "please stop it", "that will do"),
    ),
    "hush": (
        ("be quiet", "please be quiet", "stop talking", "hold on", "wait a moment", "no wait", "wait wait",
         "one moment please", "let me speak", "be quiet for {n} seconds"),
        ("hang on", "just a second", "give me a moment"),
    ),
    "resume": (
        ("go on", "please go on", "sorry go on", "please continue", "keep going", "carry on", "you can continue",
         "no problem go on"),
        ("do go on", "you may go on", "just continue where you were"),
    ),
    "withdraw": (
        ("never mind", "forget it", "please forget it", "forget that question", "i do not need that anymore",
         "you do not have to look", "it does not matter anymore", "no need to look"),
        ("do not bother", "i changed my mind about that", "skip that question"),
    ),
    # --- time -------------------------------------------------------------------------------------------------------
    "lasting": (
        ("say {p} every {n} seconds for {m} seconds", "for {m} seconds say {p} every {n} seconds",
         "every {n} seconds say {p} for {m} seconds", "please say {p} every {n} seconds for {m} seconds",
         "remind me to {p} every {n} seconds for {m} seconds", "for the next {m} seconds say {p} every {n} seconds"),
        ("during the next {m} seconds say {p} every {n} seconds", "keep saying {p} every {n} seconds for {m} seconds"),
    ),
    "every": (
        ("say the word {p} every {n} seconds", "say {p} once every {n} seconds",
         "say {p} every {n} seconds", "please say {p} every {n} seconds", "can you say {p} every {n} seconds for me",
         "could you say {p} every {n} seconds", "say {p} every {n} seconds please", "every {n} seconds say {p}",
         "remind me to {p} every {n} seconds", "please remind me to {p} every {n} seconds until i say stop",
         "say {p} every {n} seconds until i say stop", "i want you to say {p} every {n} seconds",
         "tell me {p} every {n} seconds", "every {n} seconds tell me {p}", "every {n} seconds remind me to {p}",
         "from now on say {p} every {n} seconds", "start saying {p} every {n} seconds",
         "repeat {p} every {n} seconds", "give me {p} every {n} seconds"),
        ("i would like to hear {p} every {n} seconds", "keep saying {p} every {n} seconds", "each {n} seconds say {p}"),
    ),
    "minute": (
        ("say {p} at the next minute", "at the next minute say {p}", "when the next minute starts say {p}",
         "at the next full minute say {p}", "tell me {p} at the next minute", "say {p} when the minute is full"),
        ("as soon as the next minute starts say {p}", "say {p} on the next full minute"),
    ),
    "after": (
        ("say the word {p} in {n} seconds", "in {n} seconds say {p}", "say {p} after {n} seconds",
         "say {p} in {n} seconds", "please say {p} in {n} seconds",
         "tell me {p} in {n} seconds from now", "remind me in {n} seconds to {p}", "after {n} seconds say {p}",
         "can you say {p} in {n} seconds", "in {n} seconds please say {p}",
         "in {n} seconds tell me {p}", "tell me {p} after {n} seconds", "after {n} seconds tell me {p}",
         "in {n} seconds remind me to {p}", "remind me to {p} in {n} seconds", "could you say {p} in {n} seconds",
         "when {n} seconds are over say {p}", "give me {p} in {n} seconds"),
        ("wait {n} seconds and say {p}", "{n} seconds from now say {p}", "let {n} seconds pass and then say {p}"),
    ),
    "after_half": (
        ("in half a minute say {p}", "say {p} in half a minute", "remind me in half a minute to {p}",
         "after half a minute say {p}", "tell me {p} in half a minute", "please say {p} in half a minute"),
        ("wait half a minute and say {p}", "half a minute from now say {p}"),
    ),
    "revise": (
        ("make that {n}", "make that {n} seconds", "make it {n} seconds", "make it {n}",
         "make that {n} seconds instead",
         "change that to {n} seconds", "i meant {n} seconds", "better make it {n} seconds"),
        ("{n} seconds would be better", "let us make it {n} seconds", "change it to {n}"),
    ),
    "cancel": (
        ("cancel the {p}", "stop saying {p}", "no more {p} please", "forget about the {p}", "you can drop the {p}",
         "do not say {p} anymore", "stop the {p}"),
        ("i do not need the {p} anymore", "leave out the {p}"),
    ),
    "clock": (
        ("start the stopwatch", "start timing now", "start the clock", "time me", "please time this",
         "i am starting now",
         "start the stopwatch now", "measure the time from now", "start the timer"),
        ("begin timing", "let the stopwatch run", "the time starts now"),
    ),
    "elapsed": (
        ("stop the stopwatch", "stop the clock", "stop timing", "how long did that take", "how long was that",
         "i am done how long did that take", "done how long did it take", "how many seconds was that",
         "how much time has passed"),
        ("finished how long was it", "how much time was that", "tell me how long that took"),
    ),
    "since": (
        ("how long ago did i say {x}", "how long is it since i said {x}", "how many seconds ago did i say {x}",
         "when did i say {x}", "how long has it been since i said {x}", "how much time has passed since i said {x}"),
        ("i said {x} how long ago was that", "tell me how long ago i said {x}"),
    ),
    # --- cues -------------------------------------------------------------------------------------------------------
    "cue": (
        ("when you hear me say {x} say {p}", "when i say the word {x} you say {p}", "when i say {x} you say {p}",
         "when i say {x} say {p}", "whenever i say {x} say {p}", "say {p} when you hear {x}",
         "every time you hear {x} say {p}", "each time i mention {a} {x} please say {p}",
         "every time i say {x} you say {p}", "if i say {x} you say {p}", "whenever you hear {x} please say {p}",
         "when i say {x} please say {p}",
         "when you hear {x} say {p}", "every time i say {x} say {p}",
         "say {p} when i say {x}", "say {p} every time i say {x}", "say {p} whenever i say {x}",
         "once i say {x} say {p}", "if i mention {a} {x} say {p}", "please say {p} if you hear {x}"),
        ("as soon as i say {x} you say {p}", "answer {p} whenever i say {x}", "if you hear {x} then say {p}"),
    ),
    "filler": (
        ("tell me each time i say a filler", "tell me when i use a filler word", "say filler when i use a filler word",
         "catch my filler words", "point out my filler words", "tell me every time i use a filler word"),
        ("watch my filler words", "let me know when i use a filler word"),
    ),
    "tell": (
        ("tell me each time i say {x}", "tell me every time i say {x}", "tell me when i say {x}",
         "point out each time i say {x}", "warn me when i say {x}", "tell me whenever i say {x}"),
        ("let me know whenever i say {x}", "catch me when i say {x}"),
    ),
    "count": (
        ("count how often i say {x}", "count how many times i say {x}", "please count how often i say {x}",
         "keep count of how often i say {x}", "count the times i say {x}", "count each time i say {x}"),
        ("track how often i say {x}", "keep a count of every {x} i say"),
    ),
    "how_many": (
        ("how often did i say {x}", "how many times did i say {x}", "how often have i said {x}",
         "how many times have i said {x}", "tell me how often i said {x}", "how many times was that"),
        ("what is the count for {x}", "so how often was it"),
    ),
    "switch": (
        ("give me the english word when i switch to spanish", "when i switch to spanish tell me the english word",
         "when i use a spanish word say it in english", "tell me the english word when i say it in spanish",
         "whenever i say a spanish word give me the english one", "if i say a spanish word tell me the english word"),
        ("help me out with the english word when i use a spanish one", "turn my spanish words into english ones"),
    ),
    "drill": (
        ("correct me when i say {x} wrong", "help me pronounce {x}", "i want to pronounce {x} correct me",
         "teach me to say {x}", "i am practicing the word {x} correct me", "correct my {x} when it is wrong"),
        ("tell me the right word when i get {x} wrong", "i have trouble saying {x} please correct me"),
    ),
    # --- simultaneous -----------------------------------------------------------------------------------------------
    "to_spanish": (
        ("translate what i say into spanish", "translate into spanish", "say it in spanish while i speak",
         "translate after me into spanish", "please translate everything i say into spanish",
         "translate everything into spanish", "say everything in spanish"),
        ("interpret for me into spanish", "put what i say into spanish"),
    ),
    "to_english": (
        ("translate my spanish into english", "translate into english", "say my spanish words in english while i speak",
         "translate from spanish into english", "please translate everything i say into english",
         "translate everything into english"),
        ("interpret for me into english", "put my spanish into english"),
    ),
    "shadow": (
        ("repeat everything i say", "say everything i say", "shadow me", "repeat each word right after me",
         "say every word after me", "please repeat everything i say"),
        ("be my echo", "copy every word i say"),
    ),
    "along": (
        ("count along with me", "count with me", "please count along", "count along while i count",
         "let us count together", "count together with me"),
        ("join me in counting", "say the numbers together with me"),
    ),
    # --- questions of the closed world ------------------------------------------------------------------------------
    "sum": (
        ("what is {n} plus {m}", "how much is {n} plus {m}", "can you tell me what {n} plus {m} is",
         "what do you get for {n} plus {m}", "add {n} and {m}", "what is the sum of {n} and {m}"),
        ("{n} plus {m} makes what", "do you know what {n} plus {m} is"),
    ),
    "minus": (
        ("what is {n} minus {m}", "how much is {n} minus {m}", "what do you get for {n} minus {m}",
         "can you tell me what {n} minus {m} is", "what is left of {n} minus {m}", "tell me what {n} minus {m} is"),
        ("{n} minus {m} makes what", "do you know what {n} minus {m} is"),
    ),
    "times": (
        ("what is {n} times {m}", "how much is {n} times {m}", "what do you get for {n} times {m}",
         "can you tell me what {n} times {m} is", "multiply {n} and {m}", "tell me what {n} times {m} is"),
        ("{n} times {m} makes what", "do you know what {n} times {m} is"),
    ),
    "next": (
        ("what comes after {x}", "tell me what comes after {x}", "what is next after {x}", "what follows {x}",
         "do you know what comes after {x}", "which one comes after {x}"),
        ("what do i get right after {x}", "say what follows {x}"),
    ),
    "previous": (
        ("what comes before {x}", "tell me what comes before {x}", "what is right before {x}",
         "do you know what comes before {x}", "which one comes before {x}", "what was before {x}"),
        ("what do i get right before {x}", "say what comes before {x}"),
    ),
    "opposite": (
        ("what is the opposite of {x}", "tell me the opposite of {x}", "give me the opposite of {x}",
         "do you know the opposite of {x}", "what is the contrary of {x}", "say the opposite of {x}"),
        ("which word is the opposite of {x}", "what would be the opposite of {x}"),
    ),
    "color": (
        ("what is the color of {a} {x}", "which color is {a} {x}", "what color is {a} {x}",
         "tell me the color of {a} {x}", "what color does {a} {x} have", "do you know the color of {a} {x}"),
        ("name the color of {a} {x}", "which color does {a} {x} have"),
    ),
    "more": (
        ("is {n} more than {m}", "is it true that {n} is more than {m}", "is {n} bigger than {m}",
         "would you say that {n} is more than {m}", "is the number {n} more than {m}", "is {n} higher than {m}"),
        ("do you think {n} is more than {m}", "am i right that {n} is more than {m}"),
    ),
    "count_to": (
        ("count to {m}", "please count to {m}", "can you count to {m}", "count up to {m}", "count for me up to {m}",
         "i want you to count to {m}"),
        ("go ahead and count to {m}", "let me hear you count to {m}"),
    ),
    "count_from": (
        ("count from {n} to {m}", "please count from {n} to {m}", "can you count from {n} to {m}",
         "start at {n} and count to {m}", "count on from {n} to {m}", "i want you to count from {n} to {m}"),
        ("go from {n} to {m} one by one", "let me hear you count from {n} to {m}"),
    ),
    "story": (
        ("tell me a story about {a} {x}", "tell me something about {a} {x} in a story", "i want a story about {a} {x}",
         "can you tell a story about {a} {x}", "make up a story about {a} {x}", "tell us a story about {a} {x}"),
        ("i would love a story about {a} {x}", "do you have a story about {a} {x}"),
    ),
    "describe": (
        ("describe {a} {x}", "please describe {a} {x}", "can you describe {a} {x}", "describe {a} {x} to me",
         "tell me about {a} {x}", "what is {a} {x} like"),
        ("give me a description of {a} {x}", "how would you describe {a} {x}"),
    ),
    "explain": (
        ("explain {a} {x}", "explain {a} {x} to me", "please explain {a} {x}", "can you explain {a} {x}",
         "explain to me how {a} {x} works", "how does {a} {x} work"),
        ("i need you to explain {a} {x}", "help me understand {a} {x}"),
    ),
    "remember": (
        ("the {y} is {w}", "my {y} is {w}", "remember that the {y} is {w}", "remember that my {y} is {w}",
         "please remember my {y} is {w}", "note that the {y} is {w}"),
        ("keep in mind that the {y} is {w}", "do not forget that my {y} is {w}"),
    ),
    "recall": (
        ("what was the {y}", "what is my {y}", "what is the {y}", "do you remember the {y}", "tell me the {y} again",
         "what did i say was the {y}"),
        ("can you recall the {y}", "remind me what the {y} was"),
    ),
    "persona": (
        ("your name is {name}", "you are called {name}", "i will call you {name}", "from now on your name is {name}",
         "you are {name}", "let me call you {name}"),
        ("you go by the name of {name}", "i want to call you {name}"),
    ),
    "who": (
        ("what is your name", "what are you called", "tell me your name", "do you have a name", "may i ask your name",
         "what is your name please"),
        ("what should i call you", "how do people call you"),
    ),
    "greet": (
        ("hello", "hello there", "good morning", "hi", "hi there", "hey there"),
        ("good evening", "hello again"),
    ),
    "say": (
        ("say {p}", "please say {p}", "can you say {p}", "could you say {p}", "i want you to say {p}", "now say {p}"),
        ("i would like you to say {p}", "let me hear you say {p}"),
    ),
    "repeat": (
        ("repeat after me {w}", "please repeat after me {w}", "say after me {w}", "repeat {w}"),
        ("echo these words {w}", "now you say {w}"),
    ),
    # --- tools ------------------------------------------------------------------------------------------------------
    "timer": (
        ("set a timer for {n} seconds", "start a timer for {n} seconds", "please set a timer for {n} seconds",
         "set the timer to {n} seconds", "i need a timer for {n} seconds", "can you set a timer for {n} seconds"),
        ("give me a timer of {n} seconds", "put {n} seconds on the timer"),
    ),
    "timer_minutes": (
        ("set a timer for {n} minutes", "start a timer for {n} minutes", "please set a timer for {n} minutes",
         "set the timer to {n} minutes", "i need a timer for {n} minutes", "can you set a timer for {n} minutes"),
        ("give me a timer of {n} minutes", "put {n} minutes on the timer"),
    ),
    "timer_stop": (
        ("stop the timer", "cancel the timer", "please stop the timer", "turn off the timer", "the timer can stop",
         "i do not need the timer"),
        ("end the timer", "switch off the timer"),
    ),
    "note": (
        ("take a note {p}", "write down {p}", "make a note {p}", "please write down {p}", "add a note {p}",
         "put {p} on my list"),
        ("jot down {p}", "save a note {p}"),
    ),
    "mark": (
        ("mark the {c} {s}", "put a mark on the {c} {s}", "please mark the {c} {s}", "point at the {c} {s}",
         "highlight the {c} {s}", "can you mark the {c} {s}"),
        ("draw a ring around the {c} {s}", "show me the {c} {s}"),
    ),
    # --- open questions and tasks: not for the model itself ---------------------------------------------------------
    "question": (
        ("who wrote the book about the {x}", "who invented the {x}", "how far is it to the {x}",
         "what does a {x} cost these days", "what is the weather like at the {x}", "why do people like the {x} so much",
         "when does the {x} open tomorrow", "where can i get a good {x}", "how old is the {x} in the museum",
         "which {x} would you buy", "what is the capital of {x}"),
        ("who was the first person with a {x}", "how many people own a {x}", "what time does the {x} close today"),
    ),
    "task": (
        ("look up the opening hours of the {x}", "search for a {x} near the {y}", "find out how a {x} is made",
         "book me a {x} for tomorrow", "find me a cheap {x}", "look for a {x} on the web", "order a new {x} for me",
         "find out when the {x} was built", "check the price of the {x}", "write a message about the {x} to my boss"),
        ("see what you can find about the {x}", "get me the phone number of the {x}", "compare the {x} with the {y}"),
    ),
}  # fmt: skip
for _topic, (_forms, _) in SMALL_TALK.items():
    FORMS[f"talk_{_topic}"] = (_forms[:-1], _forms[-1:])

FAMILIES: dict[str, tuple[str, ...]] = {
    "time": ("every", "lasting", "minute", "after", "after_half", "revise", "cancel", "clock", "elapsed", "since",
    "stop"),
    "cues": ("cue", "filler", "tell", "count", "how_many", "switch", "drill"),
    "dialog": (
        "hush", "resume", "sum", "minus", "times", "next", "previous", "opposite", "color", "more", "count_to",
        "count_from", "story", "describe", "explain", "remember", "recall", "persona", "who", "greet", "say", "repeat",
        *(f"talk_{topic}" for topic in SMALL_TALK),
    ),
    "simultaneous": ("to_spanish", "to_english", "shadow", "along"),
    "tools": ("timer", "timer_minutes", "timer_stop", "note", "mark"),
    "delegation": ("question", "task", "withdraw"),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star")
# Words that are easily taken for each other; a drill of one listens for the others.
CONFUSED: dict[str, tuple[str, ...]] = {
    "sheep": ("ship",), "ship": ("sheep",), "thirty": ("thirteen",), "thirteen": ("thirty",), "work": ("walk",),
    "walk": ("work",), "bear": ("beer",), "coat": ("goat",), "goat": ("coat",), "think": ("sink", "thing"),
    "mouth": ("mouse",), "pan": ("pen",), "pen": ("pan",), "light": ("right",), "glass": ("grass",),
    "grass": ("glass",), "bat": ("bad", "bed"), "bed": ("bad", "bat"), "three": ("tree",), "tree": ("three",),
    "peach": ("beach",), "beach": ("peach",), "van": ("fan",), "chicken": ("kitchen",), "kitchen": ("chicken",),
    "desert": ("dessert",), "vest": ("best",), "lock": ("rock",), "rock": ("lock",), "cat": ("cut",),
}  # fmt: skip
