"""Word lists that the task grammars draw from.

Long lists matter more than long templates: a name that occurs in a few
documents only cannot be memorised and has to be copied from the prompt.
"""

FIRST = """Ada Adam Agnes Aisha Alan Albert Alex Alice Alina Amara Amir Amy Ana Anders Andrea Anita Anna Anton Arjun Arthur
Astrid Ava Bart Bea Ben Bianca Bjorn Boris Bruno Carla Carlos Carmen Cecil Chen Chloe Claire Clara Colin Cyrus Dan Dana Daniel
Daria David Dev Diana Diego Dina Dora Edgar Edith Elena Eli Elif Elsa Emil Emma Eric Esther Eva Fabio Fatima Felix Finn Flora
Frank Freya Gabriel Gina Grace Greta Gustav Hana Hannah Harold Hassan Helen Henry Hugo Ibrahim Ida Igor Ines Ingrid Irene Iris
Isaac Ivan Jack Jana Jasmin Jasper Joan Joel Johan Jonas Jose Julia Jun Kai Karen Karim Kate Keiko Kim Kofi Lara Lars Laura Lea
Leila Lena Leo Liam Lina Linus Lisa Lola Lucas Lucia Luis Luna Maja Marco Maria Marie Mark Marta Martin Mary Max Maya Mei Mia
Mika Milan Mina Mira Mona Nadia Naomi Nora Nils Nina Noah Noor Oda Olaf Olga Oliver Omar Oscar Otto Paula Paul Pedro Peter Petra
Pia Priya Quinn Rafael Raj Ravi Rita Robert Rosa Ruth Sam Samir Sara Sean Selma Simon Sofia Sonja Stefan Sven Tara Tariq Theo
Thomas Tim Tina Tom Ulla Uma Vera Victor Viola Wanda Wei Will Yara Yusuf Yuki Zara Zoe""".split()

LAST = """Abbott Adler Ahmed Alvarez Andersen Arnold Bailey Baker Bauer Becker Bell Berg Bishop Blake Bond Bora Brandt Braun
Brown Burke Byrne Carter Castro Chan Clark Cohen Cole Costa Cruz Dahl Davis Diaz Dietz Doyle Duarte Dubois Eriksen Evans Farah
Fischer Fisher Flores Ford Foster Fox Frank Garcia Gomez Grant Gray Green Gupta Haas Hall Hansen Harris Hayes Hill Hoffman
Holm Hughes Hunt Ito Jackson Jansen Jensen Johnson Jones Kaya Keller Kelly Khan King Klein Koch Kovacs Kumar Lang Larsen Lee
Lewis Li Lind Lopez Lund Marsh Martin Mason Mayer Meyer Miller Mills Mohr Moore Morgan Moreau Murphy Nair Nakamura Neumann
Nguyen Nielsen Novak Nowak Olsen Ortiz Owens Park Patel Perez Perry Petrov Porter Price Quist Ramos Reed Reyes Rice Richter
Rossi Roth Roy Russo Sato Schmidt Scholz Shah Sharma Silva Singh Smith Sokolov Stein Stone Suzuki Tanaka Taylor Thomsen Torres
Tran Turner Vargas Vega Vogel Wagner Walker Wang Ward Weber Weiss West White Wilson Winter Wolf Wong Wood Wright Yang Yilmaz
Young Zhang Ziegler""".split()

CITIES = """Aarhus Accra Amsterdam Ankara Athens Atlanta Austin Barcelona Basel Bergen Berlin Bern Boston Bremen Bristol
Brussels Budapest Cairo Chicago Cologne Copenhagen Dallas Denver Dresden Dubai Dublin Geneva Genoa Ghent Graz Hamburg Hanoi
Helsinki Houston Istanbul Jakarta Kyoto Lagos Leeds Leipzig Lima Lisbon London Lyon Madrid Malmo Manila Marseille Melbourne
Mexico Miami Milan Montreal Munich Mumbai Nairobi Naples Oslo Ottawa Paris Perth Porto Prague Quito Riga Rome Rotterdam
Santiago Seattle Seoul Seville Singapore Sofia Stockholm Stuttgart Sydney Tallinn Tokyo Toronto Turin Utrecht Valencia
Vienna Vilnius Warsaw York Zagreb Zurich""".split()

COMPANY_HEAD = """Acme Alder Alpine Amber Apex Arbor Atlas Aurora Baltic Beacon Birch Blue Boreal Bright Canyon Cedar Cobalt
Copper Coral Crown Delta Dove Eagle Echo Elm Ember Falcon Fjord Flint Forge Gale Garnet Glacier Golden Granite Harbor Hazel
Helio Horizon Indigo Iron Ivory Jade Juniper Kestrel Lark Linden Lotus Lumen Lunar Lynx Maple Marble Meadow Mercury Meridian
Mint Nimbus Noble Nordic North Nova Oak Ocean Olive Onyx Opal Orbit Orchid Osprey Otter Pearl Pine Pioneer Polar Prairie Quartz
Quill Raven Ridge River Robin Ruby Saffron Sage Sable Scarlet Sierra Silver Slate Solar Sparrow Spruce Sterling Stone Summit
Swift Teal Terra Thistle Tidal Topaz Tulip Umber Valley Vega Velvet Violet Vista Willow Zephyr""".split()
COMPANY_TAIL = "Bank Books Cargo Clinic Data Energy Foods Freight Group Health Labs Legal Logistics Media Motors Networks Partners Robotics Software Solutions Studio Supply Systems Tools Travel Works".split()

ITEMS = """adapter backpack badge battery blanket book bottle bowl box brush bucket cable calendar camera candle card chair
charger clock coat compass cup curtain desk display dock drill envelope fan filter folder fork fridge glass globe glove hammer
handbook hat headset helmet hook jacket jar kettle key keyboard knife label ladder lamp laptop lens light lock magnet map marker
mat microphone mirror modem monitor mouse mug notebook pan paper pen pencil phone pillow plant plate plug pot poster printer
projector pump radio rope router ruler scanner scarf scissors screen screwdriver sensor shelf shirt shoe sofa speaker spoon
stapler sticker stool switch table tablet tape tent thermostat toaster toner torch towel tray tripod umbrella vase wallet watch
webcam whiteboard window wrench""".split() + ["coffee machine", "desk lamp", "phone case", "server rack", "power supply", "paper tray"]

GROCERIES = """apples avocados bananas basil beans beer beetroot berries bread broccoli butter cabbage carrots celery cheese
cherries chicken chocolate cider cinnamon coffee corn crackers cream cucumber dates eggs figs fish flour garlic ginger grapes
ham honey jam juice kale leeks lemons lentils lettuce limes mangoes milk mint mushrooms mustard noodles nuts oats oil olives
onions oranges parsley pasta peaches pears peas pepper pickles plums pork potatoes pumpkin radishes raisins rice salad salmon
salt soup spinach sugar tea tofu tomatoes tuna turkey vanilla vinegar walnuts water wine yeast yogurt""".split()

SERVICES = """api archive auth backup billing cache catalog chat checkout cluster console crawler dashboard database deploy
directory dns export feed firewall forecast gateway identity import index ingest inventory invoice ledger login mail map media
metrics monitor notification order payment photo pricing profile proxy queue registry relay render report scheduler search
session shipping signup staging storage stream support sync telemetry token translation upload user video vpn wallet web webhook
wiki""".split()

ROLES = """accountant analyst architect assistant auditor buyer cashier chef clerk coach consultant cook courier dentist designer
developer director doctor driver editor engineer gardener guide intern journalist judge lawyer librarian manager mechanic mentor
nurse operator painter photographer pilot planner plumber producer professor receptionist recruiter reporter researcher
scientist secretary supervisor surgeon teacher technician tester trainer translator treasurer waiter writer""".split() + ["team lead", "support lead"]

TEAMS = "billing finance legal marketing network operations payroll platform procurement product quality research sales security storage support training travel warehouse web".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COLOURS = "black blue brown gold green grey orange pink purple red silver white yellow".split()
CARRIERS = "DHL UPS FedEx PostNord Hermes DPD TNT GLS".split()
ROOMS = ["Room " + letter for letter in "ABCDEFGH"] + ["the atrium", "the library", "the lobby", "the canteen", "the studio", "the lab"]
CURRENCIES = ["EUR", "USD", "GBP", "CHF", "SEK"]
REGIONS = ["eu-west", "eu-north", "eu-central", "us-east", "us-west", "ap-south", "ap-east", "sa-east"]
CAUSES = ["a full disk", "an expired certificate", "a faulty switch", "a bad deploy", "a memory leak", "a power cut", "a broken cable",
          "a wrong DNS record", "an overloaded database", "a failed backup", "a slow query", "a configuration error", "a cooling failure",
          "a lost session key", "a firmware bug", "a network loop", "an expired licence", "a missing index"]
VERBS = {  # base: (third person, past)
    "approve": ("approves", "approved"), "archive": ("archives", "archived"), "book": ("books", "booked"), "build": ("builds", "built"),
    "buy": ("buys", "bought"), "call": ("calls", "called"), "cancel": ("cancels", "cancelled"), "check": ("checks", "checked"),
    "clean": ("cleans", "cleaned"), "close": ("closes", "closed"), "copy": ("copies", "copied"), "deliver": ("delivers", "delivered"),
    "find": ("finds", "found"), "fix": ("fixes", "fixed"), "install": ("installs", "installed"), "leave": ("leaves", "left"),
    "lose": ("loses", "lost"), "make": ("makes", "made"), "move": ("moves", "moved"), "need": ("needs", "needed"), "open": ("opens", "opened"),
    "order": ("orders", "ordered"), "pack": ("packs", "packed"), "paint": ("paints", "painted"), "pay for": ("pays for", "paid for"),
    "print": ("prints", "printed"), "read": ("reads", "read"), "rent": ("rents", "rented"), "repair": ("repairs", "repaired"),
    "replace": ("replaces", "replaced"), "review": ("reviews", "reviewed"), "sell": ("sells", "sold"), "send": ("sends", "sent"),
    "ship": ("ships", "shipped"), "sign": ("signs", "signed"), "start": ("starts", "started"), "stop": ("stops", "stopped"),
    "take": ("takes", "took"), "test": ("tests", "tested"), "update": ("updates", "updated"), "use": ("uses", "used"),
    "wash": ("washes", "washed"), "watch": ("watches", "watched"), "write": ("writes", "wrote"),
}
DOCS = "agenda agreement backup bill brief budget catalogue contract draft email file form guide invoice letter list log manual memo message minutes note offer order plan policy presentation proposal quote receipt report request review roadmap schedule slides spreadsheet statement summary survey template ticket update".split()
ADJECTIVES = "big blue bright broken busy calm cheap clean cold dark dirty dry early empty fast free full heavy hot large late light long loud narrow new noisy old open quiet ready red safe sharp short slow small soft strong tall warm weak wet white wide young".split()
RANDOM_WORDS = sorted(set(" ".join(GROCERIES + ITEMS + ADJECTIVES + DOCS + COLOURS + TEAMS).split()) | set("""
anchor arrow autumn badger bamboo barn basin bay beach bear bee bird bison blossom boat bridge brook canal castle cat cave cliff
cloud clover coast comet coral cottage creek crow daisy dawn deer desert dolphin dove dragon dune eagle echo farm feather fern
field fire flag flame flower fog forest fox frog galaxy garden gate goat goose grass gull hare harbour hawk heron hill horse ice
island ivy kite lake leaf lily lion lizard meadow moon moss moth mountain mouse needle nest night oak ocean orchard otter owl palm
panda parrot path pebble pigeon pine planet pond pony rabbit rain rainbow raven reef river road robin rocket rose sail sand
sea seal seed shadow shark sheep shell ship sky smoke snail snow spider spring star storm stream summer sun swan thunder tiger
trail train tree tulip tunnel turtle valley village violin volcano wave whale wheat willow wind winter wolf zebra""".split()))
CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
